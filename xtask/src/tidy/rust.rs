//! Rules about Rust code.

use super::code::{shipped, uses};
use super::tree::File;
use super::{Finding, manifests};

const KERNELS: &str = "rslad-models/src/kernels/";

/// Every word of candle that draws: none of them can be seeded on the CPU.
const DRAWS: &[&str] = &[
    "Tensor::rand",
    "Tensor::randn",
    "rand_like",
    "randn_like",
    "Var::rand",
    "Var::randn",
    "rand_f64",
    "randn_f64",
    "candle_nn::init",
    "candle_nn::Init",
    "candle_nn::Dropout",
    "candle_nn::ops::dropout",
    "candle_nn::sampling",
    "VarMap",
    "from_varmap",
];

/// The only unsafe code is in the kernels, and every crate without kernels forbids it.
pub(super) fn unsafe_stays_in_the_kernels(files: &[File]) -> Vec<Finding> {
    let outside: Vec<&File> =
        files.iter().filter(|file| file.is_rust() && !file.path.starts_with(KERNELS)).collect();
    let what = format!("`unsafe` outside {KERNELS}; move the code there");
    let mut findings: Vec<Finding> =
        outside.iter().flat_map(|file| ban(file, &["unsafe"], |_| what.clone())).collect();
    let forbids = |file: &File| file.lines().any(|(_, line)| line.trim() == "#![forbid(unsafe_code)]");
    let crate_roots = outside.iter().filter(|file| is_root_of_kernel_free_crate(&file.path));
    findings.extend(
        crate_roots
            .filter(|file| !forbids(file))
            .map(|file| Finding::of(&file.path, "lacks `#![forbid(unsafe_code)]`; add it below the docs")),
    );
    findings
}

/// candle's random functions and initializers are never called, not even by tests.
pub(super) fn candle_draws_nothing(files: &[File]) -> Vec<Finding> {
    let what = |word: &str| format!("`{word}` cannot be seeded; draw from `rslad_models::randomness`");
    rust(files).flat_map(|file| ban(file, DRAWS, what)).collect()
}

/// rslad-attacks sees a `Classifier`: no parameters, no mode, no optimizer. Its tests may build one.
pub(super) fn attacks_know_no_parameters(files: &[File]) -> Vec<Finding> {
    let words = ["Network", "ParamStore", "Training", "Frozen"];
    let what = |word: &str| format!("rslad-attacks names `{word}`; ask for a `&dyn Classifier`");
    let attacks = rust(files).filter(|file| file.path.starts_with("rslad-attacks/src/"));
    attacks.flat_map(|file| ban(&shipped(file), &words, what)).collect()
}

/// Libraries report by return values, `tracing` and observers; only the binary talks and exits.
pub(super) fn libraries_never_print(files: &[File]) -> Vec<Finding> {
    let words = ["print!", "println!", "eprint!", "eprintln!", "process::exit"];
    let what = |word: &str| format!("`{word}` in a library; return a value or emit a `tracing` event");
    let in_library =
        |path: &str| manifests::LIBRARIES.iter().any(|name| path.starts_with(&format!("{name}/src/")));
    let library = rust(files).filter(|file| in_library(&file.path));
    library.flat_map(|file| ban(&shipped(file), &words, what)).collect()
}

/// No stub, no left-over debugging, no test that is switched off.
pub(super) fn nothing_is_left_unfinished(files: &[File]) -> Vec<Finding> {
    let words = ["todo!", "unimplemented!", "dbg!", "#[ignore"];
    rust(files).flat_map(|file| ban(file, &words, |word| format!("`{word}` is left; finish it"))).collect()
}

fn rust(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| file.is_rust())
}

fn ban(file: &File, words: &[&str], what: impl Fn(&str) -> String) -> Vec<Finding> {
    uses(file, words).into_iter().map(|(line, word)| Finding::at(file, line, what(word))).collect()
}

fn is_root_of_kernel_free_crate(path: &str) -> bool {
    let names = manifests::ARROWS.iter().map(|(name, _)| *name).filter(|name| !KERNELS.starts_with(name));
    let mut roots = names.flat_map(|name| [format!("{name}/src/lib.rs"), format!("{name}/src/main.rs")]);
    roots.any(|root| root == path)
}

#[cfg(test)]
mod tests {
    use super::super::tree::file;
    use super::*;

    const FORBID: &str = "#![forbid(unsafe_code)]\n";

    /// The lines on which a check fires, for one file.
    fn lines(check: fn(&[File]) -> Vec<Finding>, path: &str, text: &str) -> Vec<Option<usize>> {
        check(&[file(path, text)]).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn unsafe_is_allowed_in_kernels_and_nowhere_else() {
        let check = unsafe_stays_in_the_kernels;
        let code = "fn f() {}\nunsafe fn g() {}\n";
        assert!(lines(check, "rslad-models/src/kernels/conv/avx512.rs", code).is_empty());
        assert_eq!(lines(check, "rslad-models/src/network.rs", code), [Some(2)]);
        assert_eq!(lines(check, "rslad-attacks/tests/a.rs", code), [Some(2)]);
        assert!(lines(check, "rslad-attacks/src/a.rs", "// unsafe\n").is_empty());
    }

    #[test]
    fn every_crate_without_kernels_forbids_unsafe() {
        let check = unsafe_stays_in_the_kernels;
        for path in ["rslad-data/src/lib.rs", "rslad-cli/src/main.rs", "xtask/src/main.rs"] {
            assert_eq!(lines(check, path, "//! Docs.\n"), [None], "{path}");
            assert!(lines(check, path, FORBID).is_empty(), "{path}");
        }
        assert!(lines(check, "rslad-models/src/lib.rs", "//! Docs.\n").is_empty());
    }

    #[test]
    fn draws_of_candle_are_found_in_tests_too() {
        let check = candle_draws_nothing;
        assert_eq!(lines(check, "rslad-data/tests/a.rs", "\nTensor::randn(0f32, 1., 3, d)?;"), [Some(2)]);
        assert_eq!(lines(check, "rslad-models/src/a.rs", "let v = VarMap::new();"), [Some(1)]);
        assert_eq!(lines(check, "rslad-models/src/a.rs", "x.rand_like(0., 1.)"), [Some(1)]);
        assert!(lines(check, "rslad-models/src/a.rs", "randomness::normal(key) // Tensor::rand").is_empty());
    }

    #[test]
    fn attacks_may_name_a_network_in_their_unit_tests_only() {
        let check = attacks_know_no_parameters;
        assert_eq!(lines(check, "rslad-attacks/src/a.rs", "use rslad_models::Network;"), [Some(1)]);
        let tested = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use rslad_models::Network;\n}\n";
        assert!(lines(check, "rslad-attacks/src/a.rs", tested).is_empty());
        assert!(lines(check, "rslad-attacks/tests/a.rs", "use rslad_models::Network;").is_empty());
        assert!(lines(check, "rslad-distill/src/a.rs", "use rslad_models::Network;").is_empty());
    }

    #[test]
    fn printing_is_for_the_binary() {
        let check = libraries_never_print;
        assert_eq!(lines(check, "rslad-distill/src/a.rs", "println!();"), [Some(1)]);
        assert_eq!(lines(check, "rslad-data/src/a.rs", "std::process::exit(1)"), [Some(1)]);
        assert!(lines(check, "rslad-cli/src/main.rs", "println!();").is_empty());
        assert!(lines(check, "rslad-data/examples/a.rs", "println!();").is_empty());
    }

    #[test]
    fn stubs_and_disabled_tests_are_found() {
        let check = nothing_is_left_unfinished;
        for text in ["todo!()", "dbg!(x)", "unimplemented!()", "#[ignore]", "#[ignore = \"slow\"]"] {
            assert_eq!(lines(check, "rslad-cli/src/a.rs", text), [Some(1)], "{text}");
        }
        assert!(lines(check, "rslad-cli/src/a.rs", "let ignored = \"todo!\";").is_empty());
        assert!(lines(check, "docs/a.md", "todo!").is_empty());
    }
}
