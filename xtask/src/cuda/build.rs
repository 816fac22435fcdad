//! Builds and tests with CUDA: cargo, told where everything is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};

use super::find::{Found, Toolkit};
use super::{Options, Stubs, stubs};

/// Builds `rslad`.
///
/// # Errors
/// When a part is missing that a build needs, or cargo fails.
pub(crate) fn build(root: &Path, options: &Options) -> anyhow::Result<()> {
    let clock = Instant::now();
    let build = Build::new(root, options)?;
    build.ready_to_link()?;
    build.cargo(&["build", "--bin", "rslad"])?;
    let (whole, binary) = (build.target.join("release/rslad"), build.target.join("rslad"));
    let mut strip = Command::new("strip"); // not the profile's: that would compile the kernels a second time
    if !strip
        .arg("-o")
        .arg(&binary)
        .arg(&whole)
        .status()
        .context("cannot start strip; install binutils")?
        .success()
    {
        bail!("{} cannot be stripped", whole.display());
    }
    let bytes = std::fs::metadata(&binary).with_context(|| binary.display().to_string())?.len();
    let (seconds, cap) = (clock.elapsed().as_secs(), build.found.cap().unwrap_or_default());
    println!(
        "built      {} for capability {cap} ({:.1} MB, {seconds} s)",
        binary.display(),
        bytes as f64 / 1e6
    );
    Ok(())
}

/// Builds the tests, and runs them where a GPU is.
///
/// # Errors
/// As [`build`]; and when a test fails.
pub(crate) fn test(root: &Path, options: &Options) -> anyhow::Result<()> {
    let build = Build::new(root, options)?;
    build.ready_to_link()?;
    build.cargo(&["test", "--no-run"])?;
    if build.found.has_gpu() {
        return build.cargo(&["test"]);
    }
    println!("no GPU here: the tests were built and none was run");
    build.cargo(&["build", "--bin", "rslad"])?;
    build.says_that_there_is_no_gpu()
}

struct Build<'a> {
    root: &'a Path,
    options: &'a Options,
    found: Found,
    target: PathBuf,
}

impl<'a> Build<'a> {
    fn new(root: &'a Path, options: &'a Options) -> anyhow::Result<Self> {
        let found = options.look();
        if let Some(missing) = found.compiler_missing() {
            bail!("no {missing}; `cargo xtask cuda check` says how to get it");
        }
        if found.cap().is_none() {
            bail!("for which GPU? say --cap 90, or another compute capability; there is no GPU here to ask");
        }
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Ok(Self { root, options, found, target: target.join("cuda") })
    }

    fn toolkit(&self) -> anyhow::Result<&Toolkit> {
        self.found.toolkit.as_ref().context("no nvcc")
    }

    fn stubs(&self) -> PathBuf {
        self.target.join("stubs")
    }

    /// Compiles all that is linked, and makes the stubs that are allowed and needed.
    fn ready_to_link(&self) -> anyhow::Result<()> {
        let missing = self.found.unlinkable(self.options.parts().1);
        if missing.is_empty() {
            return Ok(());
        }
        if self.options.stubs == Stubs::Refuse {
            let names: Vec<&str> = missing.iter().map(|library| library.name).collect();
            bail!(
                "the linker would not find {}; install them, or write --stubs for a binary that runs elsewhere",
                names.join(", ")
            );
        }
        self.cargo(&["build", "--lib"])?;
        stubs::make(&self.stubs(), &missing, self.toolkit()?.version.0, &self.objects())
    }

    /// That the program ends with a sentence where the libraries are there and find no GPU: as the stubs, whose
    /// every answer is that there is no device.
    fn says_that_there_is_no_gpu(&self) -> anyhow::Result<()> {
        let place = self.target.join("no-gpu");
        let mut program = Command::new(self.target.join("release/rslad"));
        program
            .args(["train", "--recipe", "digits/resnet18-natural", "--device", "cuda", "--out"])
            .arg(&place);
        let output = program.env("LD_LIBRARY_PATH", self.stubs()).output().context("cannot start rslad")?;
        let told = String::from_utf8_lossy(&output.stderr);
        let sentence = told.lines().find(|line| line.contains("no GPU can be used here"));
        match (sentence, output.status.code()) {
            (Some(sentence), Some(2)) => {
                println!("with libraries that find no GPU it ends with code 2 and says\n  {sentence}");
                Ok(())
            }
            (_, code) => bail!("without a GPU the program ended with {code:?}, expected code 2:\n{told}"),
        }
    }

    /// What uses NVIDIA's symbols: bindings, candle, our kernels, and candle's static library.
    fn objects(&self) -> Vec<PathBuf> {
        let files =
            |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
        let rlibs = files(self.target.join("release/deps")).filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let named = ["libcudarc-", "libcandle_", "librslad_"].iter().any(|head| name.starts_with(head));
            named && name.ends_with(".rlib")
        });
        let moe = files(self.target.join("release/build")).map(|path| path.join("out/libmoe.a"));
        rlibs.chain(moe.filter(|path| path.exists())).collect()
    }

    fn cargo(&self, command: &[&str]) -> anyhow::Result<()> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut cargo = Command::new(cargo);
        cargo.args(command).args(["--release", "--workspace", "--exclude", "xtask", "--locked"]);
        cargo.args(["--features", self.options.parts().0]);
        if let Some(jobs) = &self.options.jobs {
            cargo.args(["--jobs", jobs]);
        }
        for (name, value) in self.environment()? {
            cargo.env(name, value);
        }
        println!("+ {cargo:?}");
        match cargo.current_dir(self.root).status().context("cannot start cargo")?.success() {
            true => Ok(()),
            false => bail!("cargo {} failed, see above", command.join(" ")),
        }
    }

    /// What cargo, nvcc, cudarc and the linker are told. Names of folders as each of them reads them.
    fn environment(&self) -> anyhow::Result<Vec<(&'static str, OsString)>> {
        let toolkit = self.toolkit()?;
        let folder = || toolkit.folder.clone().into_os_string();
        let before = |own: PathBuf, variable: &str| {
            let rest = std::env::var_os(variable).unwrap_or_default();
            let rest: Vec<PathBuf> =
                std::env::split_paths(&rest).filter(|p| !p.as_os_str().is_empty()).collect();
            std::env::join_paths(std::iter::once(own).chain(rest))
        };
        Ok(vec![
            ("CARGO_TARGET_DIR", self.target.clone().into_os_string()),
            ("CUDA_HOME", folder()),
            ("CUDA_PATH", folder()),
            ("CUDA_ROOT", folder()),
            ("CUDA_TOOLKIT_ROOT_DIR", folder()),
            ("CUDA_COMPUTE_CAP", self.found.cap().unwrap_or_default().into()),
            ("PATH", before(toolkit.folder.join("bin"), "PATH")?),
            ("LIBRARY_PATH", before(self.stubs(), "LIBRARY_PATH")?),
            ("RSLAD_TEST_DEVICE", self.options.device.clone().into()),
        ])
    }
}
