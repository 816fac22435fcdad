//! What a cell needs of a cluster: a small file, which every group of users writes once.
//!
//! ```toml
//! partition = "gpu"            # Slurm
//! account = "robust"           # Slurm
//! time = "24:00:00"            # of a cell; one that reaches it is saved and queued again (Slurm)
//! warn_seconds = 120           # before that limit, to save in; 120 where it is not said (Slurm)
//! memory = "16G"               # of a cell (Slurm)
//! gpus = 1                     # of a cell
//! cpus = 4                     # of a cell: its threads
//! at_once = 8                  # cells of one kind at a time; with GNU parallel the GPUs of the machine
//! modules = ["cuda/12.4"]      # `module load`
//! container = "apptainer exec --nv rslad.sif"
//! program = "rslad"            # where it is not this very file
//! setup = ["source env.sh"]    # lines of shell before the cell
//! options = ["--qos=long"]     # more options of sbatch or parallel
//! ```

use crate::exit::Ended;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file. What is not said is left to the engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cluster {
    pub(crate) partition: Option<String>,
    pub(crate) account: Option<String>,
    pub(crate) time: Option<String>,
    pub(crate) warn_seconds: Option<u32>,
    pub(crate) memory: Option<String>,
    pub(crate) gpus: Option<u32>,
    pub(crate) cpus: Option<u32>,
    pub(crate) at_once: Option<u32>,
    pub(crate) modules: Vec<String>,
    pub(crate) container: Option<String>,
    pub(crate) program: Option<String>,
    pub(crate) setup: Vec<String>,
    pub(crate) options: Vec<String>,
}

impl Cluster {
    /// Reads and checks the file; without one everything is left to the engine.
    ///
    /// # Errors
    /// Names the key, what is there and what was expected.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let failed = |message: String| Ended::Usage(format!("{}: {message}", path.display()));
        let text = std::fs::read_to_string(path)
            .map_err(|e| failed(format!("cannot be read ({e}), expected what cells need, in TOML")))?;
        let cluster: Self = toml::from_str(&text).map_err(|e| failed(e.to_string().trim_end().into()))?;
        match cluster.problem() {
            Some(problem) => Err(failed(problem).into()),
            None => Ok(cluster),
        }
    }

    fn problem(&self) -> Option<String> {
        let zero = [("cpus", self.cpus), ("at_once", self.at_once), ("warn_seconds", self.warn_seconds)];
        let zero = zero.iter().find(|(_, value)| *value == Some(0));
        let words =
            [&self.partition, &self.account, &self.time, &self.memory, &self.container, &self.program];
        let words = words.into_iter().flatten().chain(&self.modules).chain(&self.setup).chain(&self.options);
        let broken = words.into_iter().find(|word| word.contains('\n') || word.trim().is_empty());
        zero.map(|(key, _)| {
            format!("`{key}` is 0, expected 1 or more; leave it out to let the engine choose")
        })
        .or_else(|| broken.map(|word| format!("{word:?} is no value, expected one line of text")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_file_is_told_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.toml");
        let check = |text: &str, expected: &str| {
            std::fs::write(&path, text).unwrap();
            let message = Cluster::load(Some(&path)).unwrap_err().to_string();
            assert!(message.contains("cluster.toml") && message.contains(expected), "{message}");
        };
        check("gpu = 1", "unknown field `gpu`");
        check("cpus = 0", "`cpus` is 0, expected 1 or more");
        check("options = [\"--qos=a\\nrm -r x\"]", "expected one line of text");
        check("gpus = \"one\"", "expected u32");
        assert_eq!(Cluster::load(None).unwrap(), Cluster::default());
        assert!(
            Cluster::load(Some(&dir.path().join("none"))).unwrap_err().to_string().contains("cannot be read")
        );
    }
}
