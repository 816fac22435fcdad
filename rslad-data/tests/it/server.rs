//! An HTTP server on the loopback that behaves as badly as it is told to.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the server answers under the first part of a path.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// The file, from the asked position on.
    Good,
    /// The file, but after so many bytes the connection is cut.
    Cut(usize),
    /// As `Cut`, and it knows no positions.
    CutWithoutRanges(usize),
    /// As many bytes, but others.
    WrongBytes,
    /// Fewer bytes than the file has, and says so.
    Short,
    /// A web page that says it is one.
    Page,
    /// A web page that says it is a file.
    DisguisedPage,
    /// This status.
    Status(u16),
    /// This status so many times, then the file.
    StatusAtFirst(u16, usize),
    /// A part, but another than the asked one.
    OtherPart,
    /// Another place to ask.
    Redirect(&'static str),
    /// Half of the file, then nothing, without an end.
    Silence,
}

/// One request as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

pub struct Server {
    pub base: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Serves `file`, and answers as the first matching prefix of the path says.
    pub fn start(file: Vec<u8>, answers: &'static [(&'static str, Answer)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(vec![]));
        let seen = Arc::clone(&requests);
        let file = Arc::new(file);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (file, seen) = (Arc::clone(&file), Arc::clone(&seen));
                thread::spawn(move || {
                    let _ = serve(stream, &file, answers, &seen); // that the client goes away is part of the test
                });
            }
        });
        Self { base, requests }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(
    stream: TcpStream,
    file: &[u8],
    answers: &[(&str, Answer)],
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = (&mut reader).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": ").map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned())))
        .collect();
    let header = |name: &str| headers.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
    let request =
        Request { path: path.clone(), range: header("range"), authorization: header("authorization") };
    let from: usize = request
        .range
        .as_deref()
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
        .unwrap_or(0);
    let earlier = {
        let mut seen = seen.lock().unwrap();
        seen.push(request);
        seen.iter().filter(|request| request.path == path).count() - 1
    };
    let answer = answers.iter().find(|(prefix, _)| path.starts_with(prefix)).map(|(_, answer)| *answer);
    let mut out = stream;
    match answer.unwrap_or(Answer::Status(404)) {
        Answer::Good => send(&mut out, file, from, usize::MAX),
        Answer::Cut(after) => send(&mut out, file, from, after),
        Answer::CutWithoutRanges(after) => {
            send(&mut out, file, 0, if earlier == 0 { after } else { usize::MAX })
        }
        Answer::WrongBytes => {
            let wrong: Vec<u8> = file.iter().map(|byte| byte ^ 1).collect();
            send(&mut out, &wrong, from, usize::MAX)
        }
        Answer::Short => send(&mut out, &file[..file.len() - 1], from, usize::MAX),
        Answer::Page => reply(&mut out, "200 OK", "text/html; charset=utf-8", b"<!DOCTYPE html><p>Quota"),
        Answer::DisguisedPage => {
            let mut page = b"\n <html><body>".to_vec();
            page.resize(file.len(), b' ');
            reply(&mut out, "200 OK", "application/octet-stream", &page)
        }
        Answer::Status(status) => reply(&mut out, &format!("{status} No"), "text/plain", b"no"),
        Answer::StatusAtFirst(status, times) if earlier < times => {
            reply(&mut out, &format!("{status} No"), "text/plain", b"not now")
        }
        Answer::StatusAtFirst(..) => send(&mut out, file, from, usize::MAX),
        Answer::OtherPart => {
            let range = format!("Content-Range: bytes 1-9/{}\r\n", file.len());
            write!(
                out,
                "HTTP/1.1 206 Partial Content\r\n{range}Content-Length: 9\r\nConnection: close\r\n\r\n"
            )?;
            out.write_all(&file[1..10])
        }
        Answer::Redirect(to) => {
            write!(
                out,
                "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        }
        Answer::Silence => {
            send(&mut out, file, from, file.len() / 2)?;
            thread::sleep(Duration::from_secs(20));
            Ok(())
        }
    }
}

/// The file from a position on, as far as `most` bytes of it.
fn send(out: &mut TcpStream, file: &[u8], from: usize, most: usize) -> std::io::Result<()> {
    if from >= file.len() {
        return reply(out, "416 Range Not Satisfiable", "text/plain", b"");
    }
    let rest = &file[from..];
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    write!(out, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", rest.len())?;
    if from > 0 {
        write!(out, "Content-Range: bytes {from}-{}/{}\r\n", file.len() - 1, file.len())?;
    }
    out.write_all(b"\r\n")?;
    out.write_all(&rest[..rest.len().min(most)])?;
    out.flush()
}

fn reply(out: &mut TcpStream, status: &str, kind: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    write!(
        out,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    out.write_all(body)
}
