//! Shared libraries for the linker: the names and symbols of NVIDIA's, and behind each symbol one answer, the
//! error that says that there is no device.
//!
//! A program that was linked against a stub looks for the real library when it starts, by the name that the
//! stub carries. The loader never looks in the folder of the stubs, but for the test that wants to see what
//! the program says on a machine whose libraries find no GPU.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::find::Library;

/// Makes stubs of `libraries` in `folder` with the symbols that these object files lack.
///
/// # Errors
/// When `nm` or `cc` is missing or fails.
pub(super) fn make(
    folder: &Path,
    libraries: &[Library],
    major: u32,
    objects: &[PathBuf],
) -> anyhow::Result<()> {
    let symbols = by_library(&undefined(objects)?);
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for library in libraries {
        let none = BTreeSet::new();
        let own = symbols.get(library.name).unwrap_or(&none);
        let source = folder.join(format!("{}.c", library.name));
        std::fs::write(&source, code(own)).with_context(|| source.display().to_string())?;
        let target = folder.join(format!("lib{}.so", library.name));
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-fno-builtin", "-nostdlib"]);
        cc.arg(format!("-Wl,-soname,{}", library.soname(major))).arg("-o").arg(&target).arg(&source);
        if !cc.status().context("cannot start cc")?.success() {
            bail!("{}: cc made no stub of it", source.display());
        }
        let loaded = folder.join(library.soname(major));
        if !loaded.exists() {
            std::os::unix::fs::symlink(&target, &loaded).with_context(|| loaded.display().to_string())?;
        }
        println!("stub       {} with {} symbols", target.display(), own.len());
    }
    Ok(())
}

/// The symbols that object files and archives of them use and do not have.
fn undefined(objects: &[PathBuf]) -> anyhow::Result<BTreeSet<String>> {
    let output =
        Command::new("nm").arg("-u").args(objects).output().context("cannot start nm; install binutils")?;
    Ok(read(&String::from_utf8_lossy(&output.stdout)))
}

fn read(told: &str) -> BTreeSet<String> {
    let symbol = |line: &str| line.trim_start().strip_prefix("U ").map(|name| name.trim().to_string());
    told.lines().filter_map(symbol).collect()
}

/// The symbols of each library, by the prefixes that NVIDIA gives them.
fn by_library(symbols: &BTreeSet<String>) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut all: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for symbol in symbols {
        if let Some(library) = library_of(symbol) {
            all.entry(library).or_default().insert(symbol.clone());
        }
    }
    all
}

fn library_of(symbol: &str) -> Option<&'static str> {
    let prefixes = [
        ("cublasLt", "cublasLt"),
        ("cublas", "cublas"),
        ("curand", "curand"),
        ("nvrtc", "nvrtc"),
        ("cudnn", "cudnn"),
        ("nccl", "nccl"),
        ("__cuda", "cudart"),
        ("cuda", "cudart"),
        ("cu", "cuda"),
    ];
    let follows = |prefix: &str| {
        let next = symbol.strip_prefix(prefix)?.chars().next()?;
        Some(next.is_ascii_uppercase() || next == '_')
    };
    prefixes.into_iter().find(|(prefix, _)| follows(prefix) == Some(true)).map(|(_, library)| library)
}

fn code(symbols: &BTreeSet<String>) -> String {
    symbols.iter().fold(String::new(), |mut code, symbol| {
        // CUDA_ERROR_NO_DEVICE and cudaErrorNoDevice. A string takes whatever is written.
        let _ = writeln!(code, "int {symbol}(void) {{ return 100; }}");
        code
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_go_to_the_library_that_has_them() {
        let told = "
libcudarc.rlib:cudarc.o:
                 U cublasLtCreate
                 U cublasCreate_v2
                 U cuInit
                 U cuda_is_not_a_symbol_of_theirs_but_goes_to_cudart
                 U cudaLaunchKernel
                 U __cudaRegisterFatBinary
                 U nvrtcGetPTX
                 U cudnnCreate
                 U curandGenerateUniform
                 U memcpy
                 U cube
0000000000000000 T cuDefined
";
        let symbols = read(told);
        assert!(symbols.contains("memcpy") && !symbols.contains("cuDefined"));
        let all = by_library(&symbols);
        let of = |name: &str| all[name].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(of("cublasLt"), ["cublasLtCreate"]);
        assert_eq!(of("cublas"), ["cublasCreate_v2"]);
        assert_eq!(of("cuda"), ["cuInit"]);
        assert_eq!(of("nvrtc"), ["nvrtcGetPTX"]);
        assert_eq!(
            of("cudart"),
            [
                "__cudaRegisterFatBinary",
                "cudaLaunchKernel",
                "cuda_is_not_a_symbol_of_theirs_but_goes_to_cudart"
            ]
        );
        assert_eq!((of("cudnn").len(), of("curand").len(), library_of("memcpy")), (1, 1, None));
        assert_eq!(code(&all["cuda"]), "int cuInit(void) { return 100; }\n");
    }
}
