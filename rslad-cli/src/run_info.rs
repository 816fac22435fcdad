//! `run.json`: what a run was made with and when; everything that may differ between two runs of the
//! same bits.

use anyhow::{Context, Result};
use rslad_distill::times::Times;
use rslad_models::durable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunInfo {
    pub(crate) schema: u32,
    pub(crate) version: String,
    pub(crate) commit: Option<String>,
    pub(crate) seed: u64,
    pub(crate) recipe_sha256: String,
    pub(crate) data_sha256: String,
    pub(crate) teacher_sha256: Option<String>,
    pub(crate) second_teacher_sha256: Option<String>,
    /// One for each time the command was run.
    pub(crate) sittings: Vec<Sitting>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sitting {
    pub(crate) command_line: Vec<String>,
    pub(crate) host: Host,
    /// How many processes trained together, where they were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) processes: Option<usize>,
    /// Seconds since 1970.
    pub(crate) started: u64,
    pub(crate) seconds: Option<f64>,
    /// `finished`, `stopped`, `failed`; absent while it runs or when it was killed.
    pub(crate) ended: Option<String>,
    /// Where the time went; absent like `ended`.
    #[serde(default)]
    pub(crate) times: Option<Breakdown>,
}

/// Where the time of a sitting went.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Breakdown {
    pub(crate) steps: u64,
    pub(crate) images_per_second: f64,
    /// The mean seconds of each stage of a step.
    pub(crate) seconds_per_step: BTreeMap<String, f64>,
    pub(crate) evaluation_seconds: f64,
    pub(crate) saving_seconds: f64,
}

impl From<&Times> for Breakdown {
    fn from(times: &Times) -> Self {
        let mean = |time: Duration| time.as_secs_f64() / times.steps.max(1) as f64;
        Self {
            steps: times.steps,
            images_per_second: times.images_per_second(),
            seconds_per_step: times
                .stages()
                .into_iter()
                .map(|(name, t)| (name.to_string(), mean(t)))
                .collect(),
            evaluation_seconds: times.evaluation.as_secs_f64(),
            saving_seconds: times.saving.as_secs_f64(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    /// The threads that numeric work is spread over; results do not depend on it.
    pub(crate) threads: usize,
    pub(crate) os: String,
    /// Where networks ran, where that is not the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
}

impl Sitting {
    /// A sitting that begins now.
    pub(crate) fn begin() -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let command_line = std::env::args().collect();
        let host = Host::here();
        Self { command_line, host, processes: None, started, seconds: None, ended: None, times: None }
    }
}

impl Host {
    pub(crate) fn here() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|(_, v)| v.trim()));
        Self {
            processor: model.unwrap_or(std::env::consts::ARCH).into(),
            cores: cores(),
            threads: rslad_models::Engine::from_environment().map_or(1, |engine| engine.threads.get()),
            os: std::env::consts::OS.into(),
            device: None,
        }
    }
}

/// The processors that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl RunInfo {
    /// The file's contents with its earlier sittings, if there is one.
    pub(crate) fn continued(mut self, path: &Path) -> Self {
        let earlier = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        if let Some(earlier) = earlier {
            self.sittings.splice(0..0, earlier.sittings);
        }
        self
    }

    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("run.json")?;
        Ok(durable::write(path, (text + "\n").as_bytes())?)
    }
}
