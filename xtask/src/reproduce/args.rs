//! The command line of `cargo xtask reproduce`.

use std::path::PathBuf;

use super::TABLES;

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) table: String,
    pub(crate) scale: Option<String>,
    /// Only rows whose `student/method` contains one of these.
    pub(crate) only: Vec<String>,
    pub(crate) seeds: Option<Vec<u64>>,
    /// Where the published data lie.
    pub(crate) data: Option<String>,
    /// What runs the cells, and what it is told: handed to `rslad grid submit` as they are.
    pub(crate) engine: Option<String>,
    pub(crate) cluster: Option<String>,
    pub(crate) template: Option<String>,
    /// Into how many blocks of images evaluations are cut, each a cell.
    pub(crate) shards: Option<usize>,
    pub(crate) out: Option<PathBuf>,
    pub(crate) dry_run: bool,
    pub(crate) yes: bool,
}

/// How to use it.
pub(crate) fn help() -> String {
    let tables: Vec<String> = TABLES
        .iter()
        .map(|(name, scales, about)| format!("  {name:<9} {about} ({})", scales.join(", ")))
        .collect();
    format!(
        "usage: cargo xtask reproduce TABLE [--scale smoke|small|paper] [--only TEXT]... [--seeds 0,1]\n\
         {:30}[--data DIR] [--shards N] [--engine local|parallel|slurm|hq]\n\
         {:30}[--cluster FILE] [--template FILE] [--out DIR] [--dry-run] [--yes]\n\n{}\n\n\
         Without --scale: the plans of all scales, then `small` if its data are here.\n",
        "",
        "",
        tables.join("\n")
    )
}

impl Args {
    /// Reads the words after `reproduce`.
    ///
    /// # Errors
    /// Names the word, and what was expected.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let names: Vec<&str> = TABLES.iter().map(|(name, ..)| *name).collect();
        let Some((table, rest)) = words.split_first() else {
            return Err(format!("reproduce what? expected one of {}", names.join(", ")));
        };
        let Some((_, scales, _)) = TABLES.iter().find(|(name, ..)| name == table) else {
            return Err(format!("no table `{table}`, expected one of {}", names.join(", ")));
        };
        let mut args = Self { table: (*table).into(), ..Self::default() };
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            let mut value = || rest.next().copied().ok_or_else(|| format!("{word} takes a value"));
            match *word {
                "--dry-run" => args.dry_run = true,
                "--yes" => args.yes = true,
                "--scale" => args.scale = Some(one_of(value()?, scales)?),
                "--engine" => args.engine = Some(value()?.into()),
                "--cluster" => args.cluster = Some(value()?.into()),
                "--template" => args.template = Some(value()?.into()),
                "--shards" => args.shards = Some(blocks(value()?)?),
                "--only" => args.only.push(value()?.into()),
                "--data" => args.data = Some(value()?.into()),
                "--out" => args.out = Some(value()?.into()),
                "--seeds" => args.seeds = Some(seeds(value()?)?),
                _ => return Err(format!("no option `{word}`")),
            }
        }
        Ok(args)
    }

    /// The flags of `rslad grid submit`.
    pub(crate) fn submit(&self) -> Vec<String> {
        let flags =
            [("--engine", &self.engine), ("--cluster", &self.cluster), ("--template", &self.template)];
        let given = flags.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value.clone()?]));
        given.flatten().collect()
    }

    /// Whether another machine will do the work.
    pub(crate) fn hands_over(&self) -> bool {
        self.engine.as_deref().is_some_and(|engine| engine != "local")
    }

    /// Whether a row is wanted.
    pub(crate) fn wants(&self, student: &str, method: &str) -> bool {
        let row = format!("{student}/{method}");
        self.only.is_empty() || self.only.iter().any(|text| row.contains(text))
    }
}

fn one_of(scale: &str, scales: &[&str]) -> Result<String, String> {
    match scales.contains(&scale) {
        true => Ok(scale.into()),
        false => Err(format!("--scale {scale}: expected one of {}", scales.join(", "))),
    }
}

fn blocks(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=1000).contains(&n) => Ok(n),
        _ => Err(format!("--shards {text}: expected a number of blocks, 1 to 1000")),
    }
}

fn seeds(text: &str) -> Result<Vec<u64>, String> {
    let seeds: Result<Vec<u64>, _> = text.split(',').map(|seed| seed.trim().parse()).collect();
    seeds.map_err(|_| format!("--seeds {text}: expected whole numbers such as 0,1,2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_read_or_told_what_is_wrong() {
        let args =
            Args::parse(&["cifar100", "--scale", "paper", "--only", "rslad", "--seeds", "0,1", "--yes"])
                .unwrap();
        assert_eq!(
            (args.scale.as_deref(), args.seeds.as_deref(), args.yes),
            (Some("paper"), Some(&[0, 1][..]), true)
        );
        assert!(args.wants("resnet18", "rslad") && !args.wants("resnet18", "sat"));
        assert!(!args.hands_over() && args.submit().is_empty());
        let args = Args::parse(&["digits", "--engine", "slurm", "--cluster", "c.toml"]).unwrap();
        assert!(args.hands_over());
        assert_eq!(args.submit(), ["--engine", "slurm", "--cluster", "c.toml"]);
        let check = |words: &[&str], expected: &str| {
            let message = Args::parse(words).unwrap_err();
            assert!(message.contains(expected), "{message}");
        };
        check(&[], "expected one of digits, cifar10");
        check(&["cifar"], "no table `cifar`");
        check(&["digits", "--scale", "paper"], "expected one of smoke, small");
        check(&["digits", "--scale"], "--scale takes a value");
        check(&["digits", "--seeds", "a"], "whole numbers");
        check(&["digits", "--shards", "0"], "a number of blocks");
        check(&["digits", "--fast"], "no option `--fast`");
    }
}
