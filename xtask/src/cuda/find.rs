//! What is here of CUDA, part by part.
//!
//! Everything that is looked at comes in through [`Here`], so that tests look at folders of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The machine as it is looked at.
pub(super) struct Here {
    /// The root of the file system.
    root: PathBuf,
    variables: BTreeMap<String, String>,
    /// Runs a program and gives what it prints, if it ends well.
    run: fn(&Path, &[&str]) -> Option<String>,
    /// Where a Python environment keeps the toolkit.
    venv: Option<PathBuf>,
}

/// The libraries that a build links, with the names that the loader looks for. Majors are the toolkit's.
pub(super) const LIBRARIES: [Library; 8] = [
    Library { name: "cuda", soname: "libcuda.so.1", package: "the NVIDIA driver" },
    Library { name: "cudart", soname: "libcudart.so.{major}", package: "nvidia-cuda-runtime" },
    Library { name: "cublas", soname: "libcublas.so.{major}", package: "nvidia-cublas" },
    Library { name: "cublasLt", soname: "libcublasLt.so.{major}", package: "nvidia-cublas" },
    Library { name: "curand", soname: "libcurand.so.10", package: "nvidia-curand" },
    Library { name: "nvrtc", soname: "libnvrtc.so.{major}", package: "nvidia-cuda-nvrtc" },
    Library { name: "cudnn", soname: "libcudnn.so.9", package: "nvidia-cudnn-cu{major}" },
    Library { name: "nccl", soname: "libnccl.so.2", package: "nvidia-nccl-cu{major}" },
];

/// A shared library.
#[derive(Clone, Copy, Debug)]
pub(super) struct Library {
    pub(super) name: &'static str,
    soname: &'static str,
    package: &'static str,
}

impl Library {
    /// The name that a program is linked to.
    pub(super) fn soname(&self, major: u32) -> String {
        self.soname.replace("{major}", &major.to_string())
    }

    /// Where it comes from.
    fn package(&self, major: u32) -> String {
        self.package.replace("{major}", &major.to_string())
    }
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// The compiler, and the toolkit's folder above it.
    pub(super) toolkit: Option<Toolkit>,
    host_compiler: bool,
    /// Libraries that the linker finds, each with its file.
    linkable: BTreeMap<&'static str, PathBuf>,
    /// Libraries that the loader finds.
    loadable: BTreeMap<&'static str, PathBuf>,
    driver: Option<String>,
    gpus: Vec<Gpu>,
    cap: Option<String>,
}

#[derive(Debug)]
pub(super) struct Toolkit {
    pub(super) folder: PathBuf,
    pub(super) version: (u32, u32),
    /// Parts of the compiler that are not there, by the packages that bring them.
    missing: Vec<&'static str>,
}

#[derive(Debug)]
struct Gpu {
    name: String,
    cap: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Here,
    Missing,
}

/// A line of `check`.
pub(super) struct Finding {
    pub(super) topic: &'static str,
    pub(super) standing: Standing,
    pub(super) found: String,
    pub(super) fix: Option<String>,
}

/// The version of the toolkit that a registry is asked for: what was tried.
const TRIED: &str = "13.0";

impl Here {
    pub(super) fn new(venv: Option<&str>) -> Self {
        let run = |program: &Path, args: &[&str]| {
            let output = Command::new(program).args(args).output().ok().filter(|o| o.status.success())?;
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let variables: BTreeMap<String, String> = std::env::vars().collect();
        let venv = venv.map(PathBuf::from).or_else(|| variables.get("VIRTUAL_ENV").map(PathBuf::from));
        Self { root: "/".into(), variables, run, venv }
    }

    fn folders(&self, variable: &str) -> Vec<PathBuf> {
        let value = self.variables.get(variable).cloned().unwrap_or_default();
        std::env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).collect()
    }

    fn file(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A program, from the folders of `PATH`.
    fn program(&self, name: &str) -> Option<PathBuf> {
        self.folders("PATH").into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
    }

    /// `site-packages/nvidia/*` of the Python environment.
    fn packages(&self) -> Vec<PathBuf> {
        let Some(venv) = &self.venv else { return vec![] };
        let sites = children(&venv.join("lib")).into_iter().map(|python| python.join("site-packages/nvidia"));
        sites.flat_map(|site| children(&site)).collect()
    }

    /// The folders that may hold a toolkit, the most explicit first.
    fn toolkits(&self) -> Vec<PathBuf> {
        let variables = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"];
        let named = variables.iter().filter_map(|name| self.variables.get(*name)).map(PathBuf::from);
        let in_path = self.program("nvcc").and_then(|nvcc| Some(nvcc.parent()?.parent()?.to_path_buf()));
        let usual = ["usr/local/cuda", "opt/cuda"].map(|path| self.file(path));
        self.packages().into_iter().chain(named).chain(in_path).chain(usual).collect()
    }
}

/// The entries of a folder, in order.
fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

impl Found {
    pub(super) fn look(here: &Here, cap: Option<&str>) -> Self {
        let toolkit = here.toolkits().into_iter().find_map(|folder| Toolkit::at(here, &folder));
        let major = toolkit.as_ref().map_or(13, |toolkit| toolkit.version.0);
        let gpus = gpus(here);
        let given = cap.map(str::to_string).or_else(|| here.variables.get("CUDA_COMPUTE_CAP").cloned());
        Self {
            host_compiler: here.program("c++").or_else(|| here.program("g++")).is_some(),
            linkable: libraries(&link_folders(here, toolkit.as_ref()), |l| format!("lib{}.so", l.name)),
            loadable: libraries(&load_folders(here), |l| l.soname(major)),
            driver: driver(here),
            cap: given.or_else(|| gpus.first().map(|gpu| gpu.cap.clone())),
            toolkit,
            gpus,
        }
    }

    /// What a compiler lacks, if anything.
    pub(super) fn compiler_missing(&self) -> Option<String> {
        match &self.toolkit {
            None => Some("nvcc".into()),
            Some(toolkit) if !toolkit.missing.is_empty() => Some(toolkit.missing.join(", ")),
            Some(_) if !self.host_compiler => Some("c++ in PATH".into()),
            Some(_) => None,
        }
    }

    pub(super) fn cap(&self) -> Option<&str> {
        self.cap.as_deref()
    }

    /// The GPUs that are here.
    pub(super) fn has_gpu(&self) -> bool {
        !self.gpus.is_empty()
    }

    fn major(&self) -> u32 {
        self.toolkit.as_ref().map_or(13, |toolkit| toolkit.version.0)
    }

    /// The libraries that the linker does not find, but for those that the build leaves out.
    pub(super) fn unlinkable(&self, without: &[&str]) -> Vec<Library> {
        wanted(without).filter(|library| !self.linkable.contains_key(library.name)).collect()
    }

    /// The lines of `check`.
    pub(super) fn findings(&self, without: &[&str]) -> Vec<Finding> {
        vec![self.compiler(), self.capability(), self.linker(without), self.loader(without), self.gpu()]
    }

    fn compiler(&self) -> Finding {
        let topic = "compiler";
        let packages =
            ["nvcc", "crt", "cccl", "runtime"].map(|part| format!("'nvidia-cuda-{part}=={TRIED}.*'"));
        let fix = format!(
            "from NVIDIA, or: python3 -m venv VENV && VENV/bin/pip install {} 'nvidia-nvvm=={TRIED}.*', then --venv \
             VENV (a build then wants --stubs)",
            packages.join(" ")
        );
        match (&self.toolkit, self.compiler_missing()) {
            (Some(Toolkit { folder, version: (major, minor), .. }), None) => {
                Finding::here(topic, format!("nvcc {major}.{minor} in {}", folder.display()))
            }
            (Some(Toolkit { folder, .. }), Some(missing)) => {
                Finding::missing(topic, format!("nvcc in {}, without {missing}", folder.display()), fix)
            }
            (None, _) => Finding::missing(topic, "no nvcc in CUDA_HOME, PATH or the usual places", fix),
        }
    }

    fn capability(&self) -> Finding {
        match &self.cap {
            Some(cap) => Finding::here("capability", format!("builds for compute capability {cap}")),
            None => Finding::missing(
                "capability",
                "unknown: no GPU here to ask",
                "say it: --cap 80 (A100), 86 (RTX 30), 89 (RTX 40, L40), 90 (H100, H200), 120 (RTX 50)",
            ),
        }
    }

    fn linker(&self, without: &[&str]) -> Finding {
        let missing = self.unlinkable(without);
        let all = names(&wanted(without).collect::<Vec<_>>());
        match missing.is_empty() {
            true => Finding::here("linker", format!("finds {all}")),
            false => Finding::missing(
                "linker",
                format!("does not find {}", names(&missing)),
                "only to build: --stubs makes stand-ins; to run here too: NVIDIA's toolkit and cuDNN",
            ),
        }
    }

    fn loader(&self, without: &[&str]) -> Finding {
        let missing: Vec<Library> =
            wanted(without).filter(|library| !self.loadable.contains_key(library.name)).collect();
        let Some(first) = missing.first() else {
            return Finding::here("loader", "finds all libraries: a binary with CUDA starts here");
        };
        let major = self.major();
        let mut packages: Vec<String> = missing.iter().map(|library| library.package(major)).collect();
        packages.dedup();
        Finding::missing(
            "loader",
            format!("does not find {}", sonames(&missing, major)),
            format!(
                "a binary with CUDA ends here before it begins, with `error while loading shared libraries: {}: cannot \
                 open shared object file`; they come with {}, in a folder of LD_LIBRARY_PATH",
                first.soname(major),
                packages.join(", ")
            ),
        )
    }

    fn gpu(&self) -> Finding {
        let gpus: Vec<String> =
            self.gpus.iter().map(|gpu| format!("{} (capability {})", gpu.name, gpu.cap)).collect();
        match (&self.driver, gpus.is_empty()) {
            (Some(driver), false) => Finding::here("gpu", format!("{}; driver {driver}", gpus.join(", "))),
            (Some(driver), true) => {
                let fix = "`nvidia-smi` says why; a container must be given its GPUs";
                Finding::missing("gpu", format!("driver {driver}, which shows no GPU"), fix)
            }
            (None, _) => Finding::missing(
                "gpu",
                "no NVIDIA driver: nothing with CUDA runs here",
                "build here, run elsewhere",
            ),
        }
    }
}

impl Finding {
    fn here(topic: &'static str, found: impl Into<String>) -> Self {
        Self { topic, standing: Standing::Here, found: found.into(), fix: None }
    }

    fn missing(topic: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { topic, standing: Standing::Missing, found: found.into(), fix: Some(fix.into()) }
    }
}

impl Toolkit {
    /// The toolkit in a folder, if its compiler runs.
    fn at(here: &Here, folder: &Path) -> Option<Self> {
        let nvcc = folder.join("bin/nvcc");
        let told = nvcc.is_file().then(|| (here.run)(&nvcc, &["--version"]))??;
        let parts = [
            ("nvidia-nvvm (nvvm/bin/cicc)", vec!["nvvm/bin/cicc"]),
            ("nvidia-cuda-crt (crt/host_config.h)", vec!["include/crt/host_config.h"]),
            ("nvidia-cuda-runtime (cuda_runtime.h)", vec!["include/cuda_runtime.h"]),
            ("nvidia-cuda-cccl (cuda/std)", vec!["include/cuda/std", "include/cccl/cuda/std"]),
        ];
        let missing = parts.into_iter().filter(|(_, any)| !any.iter().any(|part| folder.join(part).exists()));
        let missing = missing.map(|(name, _)| name).collect();
        Some(Self { folder: folder.into(), version: release(&told)?, missing })
    }
}

/// `release 13.0` in what nvcc says of itself.
fn release(told: &str) -> Option<(u32, u32)> {
    let (_, rest) = told.split_once("release ")?;
    let (major, minor) = rest.split(',').next()?.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn wanted(without: &[&str]) -> impl Iterator<Item = Library> {
    LIBRARIES.into_iter().filter(move |library| !without.contains(&library.name))
}

fn names(libraries: &[Library]) -> String {
    libraries.iter().map(|library| library.name).collect::<Vec<_>>().join(", ")
}

fn sonames(libraries: &[Library], major: u32) -> String {
    libraries.iter().map(|library| library.soname(major)).collect::<Vec<_>>().join(", ")
}

fn libraries(folders: &[PathBuf], file: impl Fn(&Library) -> String) -> BTreeMap<&'static str, PathBuf> {
    let find = |library: &Library| {
        let name = file(library);
        folders.iter().map(|folder| folder.join(&name)).find(|path| path.exists())
    };
    LIBRARIES.iter().filter_map(|library| Some((library.name, find(library)?))).collect()
}

/// Where the linker looks: what cudarc tells it of the toolkit, and its own folders.
fn link_folders(here: &Here, toolkit: Option<&Toolkit>) -> Vec<PathBuf> {
    let below = [
        "lib",
        "lib/stubs",
        "lib64",
        "lib64/stubs",
        "targets/x86_64-linux/lib",
        "targets/x86_64-linux/lib/stubs",
    ];
    let own = toolkit.iter().flat_map(|toolkit| below.map(|part| toolkit.folder.join(part)));
    own.chain(here.folders("LIBRARY_PATH")).chain(system_folders(here)).collect()
}

/// Where the loader looks.
fn load_folders(here: &Here) -> Vec<PathBuf> {
    let usual = ["usr/local/cuda/lib64", "usr/local/nvidia/lib64"].map(|path| here.file(path));
    here.folders("LD_LIBRARY_PATH").into_iter().chain(system_folders(here)).chain(usual).collect()
}

fn system_folders(here: &Here) -> Vec<PathBuf> {
    ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib64", "usr/lib", "usr/local/lib"]
        .map(|path| here.file(path))
        .to_vec()
}

/// The driver's own words for its version.
fn driver(here: &Here) -> Option<String> {
    let text = std::fs::read_to_string(here.file("proc/driver/nvidia/version")).ok()?;
    let line = text.lines().next()?;
    let version = line
        .split_whitespace()
        .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()));
    Some(version.unwrap_or(line).to_string())
}

fn gpus(here: &Here) -> Vec<Gpu> {
    let told = here
        .program("nvidia-smi")
        .and_then(|program| (here.run)(&program, &["--query-gpu=name,compute_cap", "--format=csv,noheader"]));
    let line = |line: &str| {
        let (name, cap) = line.rsplit_once(',')?;
        Some(Gpu { name: name.trim().into(), cap: cap.trim().replace('.', "") })
    };
    told.unwrap_or_default().lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests;
