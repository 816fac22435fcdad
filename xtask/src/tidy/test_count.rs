//! `cargo xtask tidy --tests`: no crate passes the gate by having nothing to run.
//!
//! It asks the test programs that cargo built what they hold, and rustdoc for the doc tests. After
//! a test run this builds nothing again.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::{manifests, plural, tree};

/// What the gate tests, so that its build is reused here.
const CARGO_TEST: &[&str] = &["test", "--release", "--workspace", "--locked"];

/// A test program and the folder of the crate it belongs to.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    folder: String,
    path: String,
}

/// Counts the tests of every crate and prints them.
///
/// # Errors
/// When the tests do not build, or a crate has none.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let names = manifests::names(&tree::load(root)?);
    let (tests, docs) = (tests(root)?, doc_tests(root)?);
    let of = |name: &str, folders: &[String]| folders.iter().filter(|folder| *folder == name).count();
    for name in &names {
        let (tests, docs) = (plural(of(name, &tests), "test"), plural(of(name, &docs), "doc test"));
        println!("{name:<14} {tests:>10} {docs:>14}");
    }
    println!("tidy: {} and {} in the workspace", plural(tests.len(), "test"), plural(docs.len(), "doc test"));

    let has_none = |name: &&String| of(name, &tests) + of(name, &docs) == 0;
    let empty: Vec<&str> = names.iter().filter(has_none).map(String::as_str).collect();
    if !empty.is_empty() {
        bail!("no test in {}; every crate tests what it promises", empty.join(", "));
    }
    Ok(())
}

/// For every test the folder of its crate.
fn tests(root: &Path) -> anyhow::Result<Vec<String>> {
    let messages = output(root, "cargo", &[CARGO_TEST, &["--no-run", "--message-format", "json"]].concat())?;
    let mut folders = Vec::new();
    for Program { folder, path } in programs(&messages) {
        let list = output(root, &path, &["--list", "--format", "terse"])?;
        folders.extend(list.lines().filter(|line| is_test(line)).map(|_| folder.clone()));
    }
    Ok(folders)
}

/// For every doc test the folder of its crate, with which rustdoc begins the test's name.
fn doc_tests(root: &Path) -> anyhow::Result<Vec<String>> {
    let list = output(root, "cargo", &[CARGO_TEST, &["--doc", "--", "--list"]].concat())?;
    let names = list.lines().filter(|line| is_test(line));
    Ok(names.filter_map(|name| name.split(['/', '\\']).next()).map(str::to_owned).collect())
}

/// What a program writes to stdout; its stderr passes through.
fn output(root: &Path, program: &str, args: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(args).current_dir(root).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("`{program} {}` ended with {}", args.join(" "), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The test programs that cargo's messages name.
fn programs(messages: &str) -> Vec<Program> {
    messages.lines().filter_map(program).collect()
}

/// The binary of rslad-cli is an executable too, built for its tests: only the profile tells them apart.
fn program(message: &str) -> Option<Program> {
    let (profile, _) = message.split_once("\"profile\":{")?.1.split_once('}')?;
    if !profile.contains("\"test\":true") {
        return None;
    }
    let path = field(message, "executable")?;
    let manifest = field(message, "manifest_path")?;
    let folder = manifest.split(['/', '\\']).rev().nth(1)?.to_owned();
    Some(Program { folder, path })
}

/// A string of a JSON object on one line; none where it is absent or null.
fn field(json: &str, key: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{key}\":\""))?;
    Some(rest.split('"').next()?.replace("\\\\", "\\"))
}

fn is_test(line: &str) -> bool {
    line.ends_with(": test")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of cargo about an artifact, cut down to what matters here.
    fn message(manifest: &str, profile_test: &str, executable: &str) -> String {
        let target = r#""target":{"name":"x","test":true},"#;
        let profile = format!(r#""profile":{{"opt_level":"3","test":{profile_test}}},"#);
        let manifest = format!(r#""manifest_path":"{manifest}","#);
        format!(r#"{{"reason":"compiler-artifact",{manifest}{target}{profile}"executable":{executable}}}"#)
    }

    #[test]
    fn a_test_program_is_found_under_the_folder_of_its_crate() {
        let messages = [
            message("/a/anyhow/Cargo.toml", "false", "null"),
            message("/a/rslad-cli/Cargo.toml", "false", "\"/a/target/rslad\""),
            message("/a/rslad-cli/Cargo.toml", "true", "\"/a/target/deps/rslad-1\""),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let expected = Program { folder: "rslad-cli".into(), path: "/a/target/deps/rslad-1".into() };
        assert_eq!(programs(&messages.join("\n")), [expected]);
    }

    #[test]
    fn backslashes_of_a_path_are_unescaped() {
        let message = message(r"C:\\a\\xtask\\Cargo.toml", "true", r#""C:\\t\\x.exe""#);
        assert_eq!(program(&message), Some(Program { folder: "xtask".into(), path: r"C:\t\x.exe".into() }));
    }

    #[test]
    fn only_the_lines_of_tests_count() {
        assert!(is_test("a::b: test"));
        assert!(is_test("rslad-models/src/lib.rs - graph (line 3): test"));
        for line in ["", "a::b: bench", "1 test, 0 benchmarks", "0 tests, 0 benchmarks"] {
            assert!(!is_test(line), "{line}");
        }
    }
}
