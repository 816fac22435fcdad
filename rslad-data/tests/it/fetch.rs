//! Fetching from a server that supports ranges, cuts connections, serves wrong bytes and web pages.

use super::server::{Answer, Request, Server};
use rslad_data::Error;
use rslad_data::fetch::{Client, Environment, Event, Offer, RemoteFile, fetch};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const N: usize = 300_000;
const ANSWERS: &[(&str, Answer)] = &[
    ("/good", Answer::Good),
    ("/cut", Answer::Cut(100_000)),
    ("/nowhere-cut", Answer::CutWithoutRanges(100_000)),
    ("/wrong", Answer::WrongBytes),
    ("/short", Answer::Short),
    ("/page", Answer::Page),
    ("/disguised", Answer::DisguisedPage),
    ("/gone", Answer::Status(404)),
    ("/busy", Answer::StatusAtFirst(503, 2)),
    ("/broken", Answer::Status(500)),
    ("/other", Answer::OtherPart),
    ("/moved", Answer::Redirect("/good/a.bin")),
    ("/silent", Answer::Silence),
    ("/datasets", Answer::Good),
];

fn file() -> Vec<u8> {
    (0..N).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file from these places of the server, in this order.
fn remote(server: &Server, places: &[&str]) -> RemoteFile {
    RemoteFile {
        name: "a.bin".to_owned(),
        size: Some(N as u64),
        sha256: hex(&file()),
        urls: places.iter().map(|place| server.url(&format!("/{place}/a.bin"))).collect(),
    }
}

fn client(environment: Environment) -> Client {
    Client::new(environment, Duration::from_millis(1), Duration::from_millis(700))
}

/// What was said of each failure.
type Said = Vec<String>;

/// Fetches, and watches that no file has its name before it is whole and that progress adds up.
fn run(offers: &[Offer], dir: &Path, client: &Client) -> (Result<(), Error>, Said) {
    let (mut said, mut at) = (vec![], None);
    let target = dir.join("a.bin");
    let result = fetch(offers, dir, client, &mut |event| match event {
        Event::Begins { have, total, .. } => {
            assert_eq!(total, Some(N as u64));
            at = Some(have);
        }
        Event::Received(n) => {
            assert!(!target.exists(), "a file has its name too early");
            at = at.map(|at| at + n);
        }
        Event::Failed { reason, .. } => said.push(reason.to_owned()),
        Event::Done(name) => assert!(name == "a.bin" && at.is_none_or(|at| at == N as u64), "{name} {at:?}"),
        Event::Present(_) => {}
    });
    (result.map(|files| assert_eq!(files, [target])), said)
}

/// What comes of a file from these places.
#[derive(Debug)]
enum Comes {
    Whole,
    Nothing,
}

#[test]
fn each_kind_of_mirror_is_dealt_with() {
    let check = |places: &[&str], comes: Comes, expected: &[&str]| {
        let (server, dir) = (Server::start(file(), ANSWERS), TempDir::new().unwrap());
        let offer = Offer { files: vec![remote(&server, places)] };
        let (result, said) = run(&[offer], dir.path(), &client(Environment::default()));
        let matches = said.len() == expected.len() && said.iter().zip(expected).all(|(s, e)| s.contains(e));
        assert!(matches, "{places:?}: {said:#?}, expected {expected:#?}");
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        match comes {
            Comes::Whole => {
                result.unwrap();
                assert_eq!(left, ["a.bin"]);
                assert!(fs::read(dir.path().join("a.bin")).unwrap() == file(), "{places:?}");
            }
            Comes::Nothing => {
                let message = result.unwrap_err().to_string();
                for part in ["could not be fetched", places[0], "by hand: put a.bin (sha256 "] {
                    assert!(message.contains(part), "{message}");
                }
                assert!(left.is_empty(), "{left:?}");
            }
        }
        server.requests()
    };
    let broke = "broke off after ";
    check(&["good"], Comes::Whole, &[]);
    check(&["moved"], Comes::Whole, &[]);
    let asked = check(&["cut"], Comes::Whole, &[broke, broke]);
    let ranges: Vec<_> = asked.iter().map(|request| request.range.as_deref()).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-"), Some("bytes=200000-")]);
    check(&["nowhere-cut"], Comes::Whole, &[broke, "begins anew"]);
    let other = "sends a file with another sha256, which was not kept";
    check(&["wrong"], Comes::Nothing, &[other]);
    check(&["wrong", "good"], Comes::Whole, &[other]);
    check(&["short", "good"], Comes::Whole, &["has 299999 bytes, expected 300000"]);
    check(&["page", "good"], Comes::Whole, &["answers with a web page"]);
    check(&["disguised", "good"], Comes::Whole, &["sends a web page"]);
    check(&["gone", "page", "good"], Comes::Whole, &["answers 404", "web page"]);
    check(&["busy"], Comes::Whole, &["answers 503", "answers 503"]);
    check(&["broken"], Comes::Nothing, &["answers 500"; 5]);
    check(&["other", "good"], Comes::Whole, &["begins anew", "begins anew", "begins anew", "begins anew"]);
    check(&["silent"], Comes::Whole, &["broke off after 150000 bytes (timeout"]);
}

#[test]
fn a_partial_file_is_continued_and_a_wrong_one_begun_anew() {
    let check = |partial: &[u8], ranges: &[Option<&str>]| {
        let (server, dir) = (Server::start(file(), ANSWERS), TempDir::new().unwrap());
        fs::write(dir.path().join("a.bin.part"), partial).unwrap();
        let offer = Offer { files: vec![remote(&server, &["good"])] };
        run(&[offer], dir.path(), &client(Environment::default())).0.unwrap();
        assert!(fs::read(dir.path().join("a.bin")).unwrap() == file());
        let asked: Vec<_> = server.requests().into_iter().map(|request| request.range).collect();
        assert_eq!(asked.iter().map(Option::as_deref).collect::<Vec<_>>(), ranges);
    };
    check(&file()[..1234], &[Some("bytes=1234-")]);
    check(&file(), &[]);
    check(&[7; 1234], &[Some("bytes=1234-"), None]);
    check(&[7; N], &[None]);
    check(&[7; N + 1], &[None]);
}

#[test]
fn a_file_that_is_there_is_not_asked_for_and_another_one_not_overwritten() {
    let (server, dir) = (Server::start(file(), ANSWERS), TempDir::new().unwrap());
    let offers = [Offer { files: vec![remote(&server, &["good"])] }];
    let client = client(Environment::default());
    let target = dir.path().join("a.bin");
    fs::write(&target, file()).unwrap();
    run(&offers, dir.path(), &client).0.unwrap();
    fs::write(&target, b"mine").unwrap();
    let message = run(&offers, dir.path(), &client).0.unwrap_err().to_string();
    assert!(
        message.contains("a.bin: is another file (sha256 ") && message.contains("move it away"),
        "{message}"
    );
    assert_eq!(fs::read(&target).unwrap(), b"mine");
    assert_eq!(server.requests(), []);
}

#[test]
fn the_next_form_is_taken_when_one_is_not_to_be_had() {
    let (server, dir) = (Server::start(file(), ANSWERS), TempDir::new().unwrap());
    let offers = ["gone", "good"].map(|place| Offer { files: vec![remote(&server, &[place])] });
    let (result, said) = run(&offers, dir.path(), &client(Environment::default()));
    result.unwrap();
    assert_eq!(said.len(), 1);
    let offer = Offer { files: vec![remote(&server, &["gone"])] }.with_mirror(&server.url("/good/"));
    let dir = TempDir::new().unwrap();
    assert_eq!(run(&[offer], dir.path(), &client(Environment::default())).1, Vec::<String>::new());
}

#[test]
fn offline_nothing_is_asked() {
    let server = Server::start(file(), ANSWERS);
    let mut of_hub = remote(&server, &[]);
    of_hub.urls = vec!["https://huggingface.co/datasets/a.bin".to_owned()];
    let elsewhere = remote(&server, &["good"]);
    let check = |environment: Environment, file: &RemoteFile, expected: &str| {
        let dir = TempDir::new().unwrap();
        let (result, said) = run(&[Offer { files: vec![file.clone()] }], dir.path(), &client(environment));
        result.unwrap_err();
        assert_eq!(said, [expected]);
    };
    let hub = Some(server.base.clone());
    let offline = Environment { offline: true, ..Environment::default() };
    check(offline, &elsewhere, "not asked: RSLAD_OFFLINE is set");
    let hub_offline = Environment { hub_offline: true, hub, ..Environment::default() };
    check(hub_offline, &of_hub, "not asked: HF_HUB_OFFLINE is set");
    assert_eq!(server.requests(), []);
}

#[test]
fn the_hub_may_be_elsewhere_and_only_the_hub_sees_its_token() {
    let (server, dir) = (Server::start(file(), ANSWERS), TempDir::new().unwrap());
    let mut remote = remote(&server, &["gone"]);
    remote.urls.push("https://huggingface.co/datasets/a.bin".to_owned());
    let environment = Environment {
        hub: Some(format!("{}/", server.base)),
        hub_token: Some("secret".to_owned()),
        ..Environment::default()
    };
    let (result, said) = run(&[Offer { files: vec![remote] }], dir.path(), &client(environment));
    result.unwrap();
    assert!(!said.iter().any(|reason| reason.contains("secret")));
    let request = |path: &str, authorization: Option<&str>| Request {
        path: path.to_owned(),
        range: None,
        authorization: authorization.map(str::to_owned),
    };
    let expected = [request("/gone/a.bin", None), request("/datasets/a.bin", Some("Bearer secret"))];
    assert_eq!(server.requests(), expected);
}

#[test]
fn two_at_once_do_not_write_one_file() {
    let (server, dir) = (Server::start(file(), ANSWERS), TempDir::new().unwrap());
    let held = fs::File::create(dir.path().join("a.bin.part")).unwrap();
    held.lock().unwrap();
    let offers = [Offer { files: vec![remote(&server, &["good"])] }];
    let error = run(&offers, dir.path(), &client(Environment::default())).0.unwrap_err();
    assert!(
        matches!(error, Error::InUse { .. }) && error.to_string().contains("by another process"),
        "{error}"
    );
    drop(held);
    run(&offers, dir.path(), &client(Environment::default())).0.unwrap();
}
