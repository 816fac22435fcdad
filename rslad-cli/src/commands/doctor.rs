//! `rslad doctor`: what this machine offers, and what to do where something is wrong.

use crate::args::DoctorArgs;
use crate::output::Output;
use crate::run_info::cores;
use crate::say;
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use rslad_models::device::{self, CudaBuild};
use rslad_models::{ArchSpec, Classifier, DeviceSpec, Engine, Executor, Frozen, Isa, Network};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Good,
    /// It works, and could be better.
    Poor,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    topic: &'static str,
    state: State,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn good(topic: &'static str, found: impl Into<String>) -> Self {
        Self { topic, state: State::Good, found: found.into(), fix: None }
    }

    fn poor(topic: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { topic, state: State::Poor, found: found.into(), fix: Some(fix.into()) }
    }
}

pub(crate) fn run(args: &DoctorArgs) -> Result<()> {
    let engine = Engine::from_environment()?;
    let findings = [
        processor(),
        kernels(engine),
        answers(engine)?,
        threads(engine),
        memory(),
        disk(&args.dir),
        cache(),
        cuda(),
        mpi(),
    ];
    for finding in &findings {
        if args.json {
            say::result(serde_json::to_string(finding)?)?;
            continue;
        }
        let mark = if finding.state == State::Good { "ok" } else { "!!" };
        say::result(format!("{mark}  {:<10} {}", finding.topic, finding.found))?;
        if let Some(fix) = &finding.fix {
            say::result(format!("    {:<10} fix: {fix}", ""))?;
        }
    }
    Output::open(&args.dir)?; // a directory that cannot be written to ends with its exit code
    Ok(())
}

fn processor() -> Finding {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|(_, v)| v.trim()));
    let model = model.unwrap_or(std::env::consts::ARCH);
    Finding::good("processor", format!("{model}, {} cores; {}", cores(), features()))
}

#[cfg(target_arch = "x86_64")]
fn features() -> String {
    let known = [
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
    ];
    let (has, lacks): (Vec<_>, Vec<_>) = known.into_iter().partition(|(_, there)| *there);
    let names = |list: Vec<(&'static str, bool)>| match list.is_empty() {
        true => "nothing".to_string(),
        false => list.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" "),
    };
    format!("has {}, lacks {}", names(has), names(lacks))
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> String {
    "no instruction set that the kernels are made for".into()
}

fn kernels(engine: Engine) -> Finding {
    let best = Isa::best();
    match engine.executor {
        Executor::Reference => Finding::poor(
            "kernels",
            "candle's operations, the slow specification, because RSLAD_EXEC asks for them",
            "unset RSLAD_EXEC",
        ),
        Executor::Plan(isa) if isa < best => Finding::poor(
            "kernels",
            format!("{}, because RSLAD_EXEC asks for them; this processor has {}", isa.name(), best.name()),
            "unset RSLAD_EXEC",
        ),
        Executor::Plan(Isa::Portable) => Finding::poor(
            "kernels",
            "portable: this processor has no instruction set with kernels of its own",
            "choose a machine with AVX2 or AVX-512 for large runs",
        ),
        Executor::Plan(isa) => {
            Finding::good("kernels", format!("{}, the best of this processor", isa.name()))
        }
    }
}

/// Two executors may differ by rounding, and by nothing more.
const ROUNDING: f64 = 1e-4;

/// Whether the kernels give the answers of the specification here.
fn answers(engine: Engine) -> Result<Finding> {
    let network =
        Network::new(&ArchSpec::published("resnet18", &"width = 8\nblocks = '1,1,1,1'".parse()?)?, 0)?;
    let images = Tensor::arange(0f32, (4 * 3 * 32 * 32) as f32, &Device::Cpu)?;
    let images = ((images * 0.37)?.sin()?.affine(0.5, 0.5)?).reshape((4, 3, 32, 32))?; // [N, C, H, W] in [0, 1]
    let logits = |executor| -> Result<Vec<f64>> {
        let frozen = Frozen::with_engine(&network, Engine { executor, ..engine })?;
        Ok(frozen.logits(&images)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
    };
    let (ours, truth) = (logits(engine.executor)?, logits(Executor::Reference)?);
    let off = ours.iter().zip(&truth).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
    Ok(match off <= ROUNDING {
        true => {
            Finding::good("answers", format!("as the specification's, within {off:.0e} (a small ResNet-18)"))
        }
        false => Finding::poor(
            "answers",
            format!("off by {off:.0e} from the specification's, expected at most {ROUNDING:.0e}"),
            "set RSLAD_EXEC=portable, and report this processor as a bug",
        ),
    })
}

fn threads(engine: Engine) -> Finding {
    let (threads, cores) = (engine.threads.get(), cores());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
    let found = format!("{threads} on {cores} cores, load {load:.1}");
    if threads > cores {
        return Finding::poor("threads", found, format!("set RSLAD_THREADS={cores}"));
    }
    if load > 1.5 * cores as f64 {
        return Finding::poor("threads", found, "others compute here: wait, or expect a share of the speed");
    }
    Finding::good("threads", found)
}

const GIB: f64 = (1u64 << 30) as f64;

fn memory() -> Finding {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let read = |key: &str| -> Option<f64> {
        let line = info.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().trim_end_matches(" kB").parse().ok().map(|kb: f64| 1024.0 * kb / GIB)
    };
    let (Some(total), Some(free)) = (read("MemTotal:"), read("MemAvailable:")) else {
        return Finding::good("memory", "unknown on this system");
    };
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse::<f64>().ok()).map(|bytes| bytes / GIB);
    let limited = limit.map_or(String::new(), |limit| format!(", limited to {limit:.1} GiB"));
    let found = format!("{free:.1} of {total:.1} GiB free{limited}");
    match free.min(limit.unwrap_or(f64::INFINITY)) < 1.0 {
        true => Finding::poor(
            "memory",
            found,
            "free some, or lower `data.batch`: a ResNet-18 trains in about 1 GiB",
        ),
        false => Finding::good("memory", found),
    }
}

/// A run of a ResNet-18 keeps about this much.
const ENOUGH_DISK: f64 = 1.0;

fn disk(dir: &Path) -> Finding {
    let there = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let name = dir.display();
    match gib_free(there) {
        None => Finding::good("disk", format!("unknown for {name}")),
        Some(free) if free < ENOUGH_DISK => Finding::poor(
            "disk",
            format!("{free:.2} GiB free for {name}"),
            "free some, or choose another --out: a ResNet-18 keeps four files of 45 to 90 MB",
        ),
        Some(free) => Finding::good("disk", format!("{free:.1} GiB free for {name}")),
    }
}

/// The free space of a path's file system, as `df` tells it: Rust's library does not.
fn gib_free(path: &Path) -> Option<f64> {
    let output = Command::new("df").arg("-Pk").arg(path).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let kb: f64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(1024.0 * kb / GIB)
}

fn cache() -> Finding {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let usual =
        || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))).map(|p| p.join("rslad"));
    let Some(path) = set("RSLAD_CACHE").or_else(usual) else {
        return Finding::poor(
            "cache",
            "no place: neither RSLAD_CACHE nor HOME is set",
            "set RSLAD_CACHE=DIR",
        );
    };
    let names = std::fs::read_dir(&path).map(|entries| {
        let mut names: Vec<String> = entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    });
    match names {
        Ok(names) if !names.is_empty() => {
            Finding::good("cache", format!("{} holds {}", path.display(), names.join(", ")))
        }
        Ok(_) => Finding::good("cache", format!("{} is empty", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Finding::good("cache", format!("{} is not there yet; embedded data need none", path.display()))
        }
        Err(e) => Finding::poor(
            "cache",
            format!("{} cannot be read ({e})", path.display()),
            "make it readable, or set RSLAD_CACHE=DIR",
        ),
    }
}

fn cuda() -> Finding {
    let driver = std::fs::read_to_string("/proc/driver/nvidia/version").ok();
    let driver = driver.as_deref().and_then(|text| text.lines().next()).map(|line| line.trim().to_string());
    let build = match DeviceSpec::cuda_in_this_build() {
        CudaBuild::WithCudnn => "in this build, with cuDNN",
        CudaBuild::Plain => "in this build, without cuDNN: training is slow",
        CudaBuild::None => return not_in_this_build(driver),
    };
    let driver = driver.map_or("no NVIDIA driver here".into(), |driver| format!("driver {driver}"));
    match DeviceSpec::Cuda(0).open() {
        Ok(first) => {
            let gpu = device::gpu(&first).unwrap_or_else(|| "a GPU".into());
            Finding::good("cuda", format!("{build}; {gpu}; {driver}"))
        }
        Err(error) => Finding::poor(
            "cuda",
            format!("{build}; {driver}; {error}"),
            "`cargo xtask cuda check` looks at each part; write --device cpu to do without",
        ),
    }
}

fn not_in_this_build(driver: Option<String>) -> Finding {
    match driver {
        Some(driver) => Finding::poor(
            "cuda",
            format!("not in this build, which computes on the processor only; driver {driver}"),
            "build one with CUDA: `cargo xtask cuda build` (docs/cuda.md)",
        ),
        None => Finding::good("cuda", "not in this build, and no NVIDIA driver here; the processor computes"),
    }
}

/// Training by several processes, which only builds with the feature `mpi` can do.
fn mpi() -> Finding {
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_string())
    };
    let launcher = version("mpirun");
    match (cfg!(feature = "mpi"), launcher) {
        (true, Some(launcher)) => Finding::good("mpi", format!("in this build; {launcher}")),
        (true, None) => Finding::poor(
            "mpi",
            "in this build, but no mpirun in PATH",
            "install an MPI, or start it with srun",
        ),
        (false, launcher) => {
            let parts = [("an MPI with headers", version("mpicc").is_some()), ("libclang", libclang())];
            let parts =
                parts.map(|(what, here)| format!("{what} ({})", if here { "here" } else { "not here" }));
            let launcher = launcher.map_or(String::new(), |launcher| format!(" ({launcher} is here)"));
            Finding::good(
                "mpi",
                format!(
                    "not in this build{launcher}; to train by several processes build with `--features mpi`, which \
                     needs {}",
                    parts.join(" and ")
                ),
            )
        }
    }
}

fn libclang() -> bool {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let llvm = folders.filter(|folder| folder.file_name().to_string_lossy().starts_with("llvm-"));
    std::env::var_os("LIBCLANG_PATH").is_some()
        || llvm.into_iter().any(|folder| folder.path().join("lib/libclang.so").exists())
}
