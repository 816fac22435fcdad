//! Where data sets lie that came over the network: the cache directory that each platform has for it.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folder of a data set below the cache: `$RSLAD_CACHE`, else `rslad` in the platform's cache
/// (`$XDG_CACHE_HOME` or `~/.cache`; `~/Library/Caches`; `%LOCALAPPDATA%`).
///
/// # Errors
/// When the platform's variables are not set.
pub fn directory(name: &str) -> Result<PathBuf> {
    let root = root(std::env::consts::OS, &|variable| std::env::var_os(variable)).ok_or_else(|| {
        let message = "no cache directory: set RSLAD_CACHE or HOME, or name a directory";
        Error::Spec { spec: name.to_owned(), message: message.to_owned() }
    })?;
    Ok(root.join(name))
}

fn root(os: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set(if os == "windows" { "USERPROFILE" } else { "HOME" });
    let platform = || match os {
        "windows" => set("LOCALAPPDATA").or_else(|| Some(home()?.join("AppData/Local"))),
        "macos" => Some(home()?.join("Library/Caches")),
        // The XDG base directory specification: a relative path is to be ignored.
        _ => set("XDG_CACHE_HOME").filter(|p| p.is_absolute()).or_else(|| Some(home()?.join(".cache"))),
    };
    set("RSLAD_CACHE").or_else(|| Some(platform()?.join("rslad")))
}

/// Whether there is a cached data set of this name.
pub(crate) fn holds(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_lies_where_the_platform_puts_it() {
        let check = |os: &str, variables: &[(&str, &str)], expected: Option<&str>| {
            let variable = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
            };
            assert_eq!(root(os, &variable), expected.map(PathBuf::from), "{os} {variables:?}");
        };
        check("linux", &[("HOME", "/h")], Some("/h/.cache/rslad"));
        check("linux", &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], Some("/x/rslad"));
        check("linux", &[("HOME", "/h"), ("XDG_CACHE_HOME", "x")], Some("/h/.cache/rslad"));
        check("linux", &[("HOME", "/h"), ("XDG_CACHE_HOME", "")], Some("/h/.cache/rslad"));
        check("linux", &[("HOME", "/h"), ("RSLAD_CACHE", "/data")], Some("/data"));
        check("macos", &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], Some("/h/Library/Caches/rslad"));
        check("windows", &[("LOCALAPPDATA", "/l")], Some("/l/rslad"));
        check("windows", &[("USERPROFILE", "/u")], Some("/u/AppData/Local/rslad"));
        check("linux", &[], None);
    }
}
