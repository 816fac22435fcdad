//! Running the command, and looking at what it left.

use assert_cmd::cargo::cargo_bin;
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A run of a fraction of a second with every part of a real one.
pub const MICRO: [&str; 12] = [
    "--set",
    "student.width=4",
    "--set",
    "data.limit=160",
    "--set",
    "select.hold_out=32",
    "--set",
    "data.batch=64",
    "--set",
    "schedule.warmup=0",
    "--set",
    "schedule.drops=[1]",
];
pub const RECIPE: &str = "digits/resnet18-rslad";

/// What a command did.
#[derive(Debug)]
pub struct Did {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Did {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().expect("no signal ends it");
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Did {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }
}

/// An empty directory to work in.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin("rslad"));
        command.args(args).current_dir(&self.0).env_remove("RUST_LOG").stdin(Stdio::null());
        command.env("RSLAD_CACHE", self.at("cache")); // not what this machine may have
        command
    }

    pub fn rslad(&self, args: &[&str]) -> Did {
        self.command(args).output().unwrap().into()
    }

    /// With a limit on the size of files, in blocks of 512 bytes, which stands for a full disk: the same
    /// call fails, and no privilege is needed.
    #[cfg(unix)]
    pub fn rslad_on_a_full_disk(&self, blocks: u32, args: &[&str]) -> Did {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).arg(cargo_bin("rslad")).args(args).current_dir(&self.0);
        shell.output().unwrap().into()
    }

    /// `rslad train` of the micro recipe in `dir`.
    pub fn train(&self, dir: &str, more: &[&str]) -> Did {
        self.rslad(&train_args(dir, more))
    }

    /// A trained micro model.
    pub fn model(&self) -> &'static str {
        self.train("model", &["--set", "schedule.epochs=2"]).ok();
        "model/last.safetensors"
    }

    pub fn start(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        Running(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    /// All files below, with `/` between names; directories end in it.
    pub fn tree(&self) -> Vec<String> {
        let mut all = vec![];
        collect(self.0.path(), "", &mut all);
        all.sort();
        all
    }
}

pub fn train_args<'a>(dir: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [
        &["train", "--recipe", RECIPE, "--set", "inner.steps=2", "--set", "inner.step_size=eps/2"][..],
        &MICRO,
        more,
        &["--out", dir],
    ]
    .concat()
}

fn collect(dir: &Path, prefix: &str, all: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            all.push(format!("{name}/"));
            collect(&entry.path(), &format!("{name}/"), all);
        } else {
            all.push(name);
        }
    }
}

/// A command that is under way; it does not outlive its test.
pub struct Running(Option<Child>);

impl Running {
    /// Ends it at once, as `kill -9` does.
    pub fn kill(mut self) {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Sends a signal: `INT`, `TERM`, `USR1`.
    pub fn signal(&self, name: &str) {
        let id = self.0.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    pub fn is_over(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// What it did, when it is over.
    pub fn did(mut self) -> Did {
        self.0.take().unwrap().wait_with_output().unwrap().into()
    }

    /// What it did, which must be within this time.
    #[track_caller]
    pub fn did_within(mut self, limit: Duration) -> Did {
        until(limit, "the end", || self.is_over());
        self.did()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A small generator of pauses; its seed is fixed, the machine adds the rest of the chance.
pub struct Pauses(u64);

impl Pauses {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: Duration) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        limit.mul_f64((self.0 >> 33) as f64 / (1u64 << 31) as f64)
    }
}

/// Says that a test did not run, past the capture of its output.
pub fn skipped(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "{test} skipped: {why}");
}

/// Waits for something; panics after the limit.
#[track_caller]
pub fn until(limit: Duration, what: &str, mut happened: impl FnMut() -> bool) {
    let clock = Instant::now();
    while !happened() {
        assert!(clock.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

pub fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A report without its times and what depends on where it lies: the same for two runs of the same bits.
pub fn timeless(path: &Path) -> serde_json::Value {
    let mut report = json(path);
    for varies in ["provenance", "remake"] {
        report[varies].take();
    }
    let groups = report["groups"].as_array_mut().unwrap().iter_mut();
    for row in groups.flat_map(|group| group["rows"].as_array_mut().unwrap()) {
        row["size"]["ms_per_image"].take();
        row["size"]["threads"].take(); // cells take what others leave free
    }
    report
}

pub fn keys(value: &serde_json::Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Name, type and shape of every tensor.
pub fn tensors(path: &Path) -> BTreeMap<String, (String, Vec<usize>)> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let told = |(name, t): (String, safetensors::tensor::TensorView<'_>)| {
        (name, (format!("{:?}", t.dtype()), t.shape().to_vec()))
    };
    file.tensors().into_iter().map(told).collect()
}

/// The bytes of one tensor.
pub fn tensor_bytes(path: &Path, name: &str) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    SafeTensors::deserialize(&bytes).unwrap().tensor(name).unwrap().data().to_vec()
}
