//! The HTTP client: what it sends, how long it waits, and what it makes of an answer.

use super::Environment;
use super::offers::HUB;
use std::time::Duration;
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

const CONNECT: Duration = Duration::from_secs(30);

/// Asks mirrors for files.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    environment: Environment,
    pause: Duration,
}

/// An answer that brings bytes from the asked position on.
pub(super) struct Answer {
    pub(super) body: Body,
    /// The bytes of the whole file, if the answer says.
    pub(super) total: Option<u64>,
}

/// Why a mirror brings nothing now.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It may be different the next time.
    Passing(String),
    /// It will be the same the next time.
    Final(String),
    /// The position is not one of its file.
    Position,
}

impl Client {
    /// A client that pauses so long before it asks a mirror again (twice as long each time), and gives up
    /// on a mirror that is silent for `silence`.
    pub fn new(environment: Environment, pause: Duration, silence: Duration) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT.min(silence)))
            .timeout_recv_response(Some(silence))
            .timeout_per_read(Some(silence))
            .user_agent(concat!("rslad/", env!("CARGO_PKG_VERSION")));
        Self { agent: config.build().new_agent(), environment, pause }
    }

    /// How long to wait before the `n`-th time again.
    pub(super) fn pause(&self, n: u32) -> Duration {
        self.pause * 2u32.pow(n.min(6))
    }

    /// Why a mirror is not even asked, if so.
    pub(super) fn forbidden(&self, url: &str) -> Option<&'static str> {
        let of_hub = url.starts_with(HUB);
        match &self.environment {
            Environment { offline: true, .. } => Some("not asked: RSLAD_OFFLINE is set"),
            Environment { hub_offline: true, .. } if of_hub => Some("not asked: HF_HUB_OFFLINE is set"),
            _ => None,
        }
    }

    /// Asks for a file from this position on.
    pub(super) fn ask(&self, url: &str, from: u64) -> Result<Answer, Refusal> {
        let of_hub = url.strip_prefix(HUB);
        let address = match (of_hub, &self.environment.hub) {
            (Some(path), Some(hub)) => format!("{}{path}", hub.trim_end_matches('/')),
            _ => url.to_owned(),
        };
        let mut request = self.agent.get(&address);
        if let (Some(_), Some(token)) = (of_hub, &self.environment.hub_token) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        answer(request.call().map_err(of_error)?, from)
    }
}

fn of_error(error: ureq::Error) -> Refusal {
    match error {
        // Asked again at once, these say the same.
        ureq::Error::BadUri(_)
        | ureq::Error::Http(_)
        | ureq::Error::TooManyRedirects
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectProxyFailed(_) => Refusal::Final(error.to_string()),
        _ => Refusal::Passing(error.to_string()),
    }
}

fn answer(response: Response<Body>, from: u64) -> Result<Answer, Refusal> {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let is_page = text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"));
    let total = match response.status() {
        StatusCode::OK if is_page => {
            return Err(Refusal::Final("answers with a web page, expected the file".to_owned()));
        }
        StatusCode::OK if from > 0 => return Err(Refusal::Position), // it knows no positions
        StatusCode::OK => length,
        StatusCode::PARTIAL_CONTENT => {
            let range = text(header::CONTENT_RANGE).unwrap_or_default();
            if !range.starts_with(&format!("bytes {from}-")) {
                return Err(Refusal::Position);
            }
            length.map(|length| from + length)
        }
        StatusCode::RANGE_NOT_SATISFIABLE => return Err(Refusal::Position),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Refusal::Passing(format!("answers {status}")));
        }
        status => return Err(Refusal::Final(format!("answers {status}"))),
    };
    Ok(Answer { body: response.into_body(), total })
}
