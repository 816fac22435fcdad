//! Whether this process is one of several that an MPI has started, and its way to the others.

use crate::exit::{self, Ended};
use crate::say;
use anyhow::Result;
use candle_core::Device;
use rslad_distill::ranks::{Alone, Reduce};

/// The processes of a training run.
pub(crate) enum Ranks {
    Alone(Alone),
    #[cfg(feature = "mpi")]
    Mpi(rslad_distill::mpi::Mpi),
}

impl Ranks {
    /// Joins those that `mpirun` or `srun` has started with this one; alone where neither has.
    ///
    /// # Errors
    /// When there are others and this build cannot talk to them.
    pub(crate) fn join() -> Result<Self> {
        let started = started(|name| std::env::var(name).ok());
        #[cfg(feature = "mpi")]
        if started.is_some() {
            return Ok(Self::Mpi(rslad_distill::mpi::Mpi::begin()?));
        }
        match started {
            Some(n) if n > 1 => Err(Ended::Usage(format!(
                "one of {n} processes that MPI has started, but this build has no MPI; build it with `--features mpi`, \
                 or start it once"
            ))
            .into()),
            _ => Ok(Self::Alone(Alone)),
        }
    }

    /// The seam that the trainer works on.
    pub(crate) fn reduce(&self) -> &dyn Reduce {
        match self {
            Self::Alone(alone) => alone,
            #[cfg(feature = "mpi")]
            Self::Mpi(mpi) => mpi,
        }
    }

    /// Connects the GPUs of all processes, where the networks are on them and this build can.
    ///
    /// # Errors
    /// When NCCL does not come about.
    pub(crate) fn connect(&self, device: &Device) -> Result<()> {
        #[cfg(feature = "nccl")]
        if let (Self::Mpi(mpi), Device::Cuda(_)) = (self, device) {
            if mpi.ranks() > 1 {
                mpi.connect(device)?;
            }
        }
        let _ = device;
        Ok(())
    }

    /// What becomes of an error: one that all ranks have alike is told by rank 0, another ends them all.
    pub(crate) fn failed(&self, error: anyhow::Error) -> anyhow::Error {
        let reduce = self.reduce();
        if reduce.ranks() == 1 {
            return error;
        }
        let (code, rank) = (exit::code(&error), reduce.rank());
        if is_of_all(&error) {
            return if rank == 0 { error } else { Ended::ToldByAnother { code }.into() };
        }
        say::note(format!("error: rank {rank}: {}", exit::describe(&error)));
        self.abort(code)
    }

    fn abort(&self, code: u8) -> anyhow::Error {
        match self {
            Self::Alone(_) => Ended::ToldByAnother { code }.into(),
            #[cfg(feature = "mpi")]
            Self::Mpi(mpi) => mpi.abort(code),
        }
    }
}

/// Whether all ranks end with this error, because they have agreed on it.
fn is_of_all(error: &anyhow::Error) -> bool {
    use rslad_distill::Error as E;
    let of_all = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(E::Ranks(_) | E::NotFinite { .. }))
            || matches!(cause.downcast_ref(), Some(Ended::Interrupted))
    };
    error.chain().any(of_all)
}

/// How many processes an MPI has started, if one has: as Open MPI, the launchers of MPICH and Slurm say it.
fn started(variable: impl Fn(&str) -> Option<String>) -> Option<usize> {
    let number = |name: &str| variable(name)?.parse::<usize>().ok();
    let by_slurm = || variable("PMIX_RANK").and_then(|_| number("SLURM_NTASKS"));
    number("OMPI_COMM_WORLD_SIZE").or_else(|| number("PMI_SIZE")).or_else(by_slurm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_say_how_many_they_have_started() {
        let check = |set: &'static [(&'static str, &'static str)], expected: Option<usize>| {
            let variable = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
            assert_eq!(started(variable), expected, "{set:?}");
        };
        check(&[], None);
        check(&[("OMPI_COMM_WORLD_SIZE", "4")], Some(4));
        check(&[("PMI_SIZE", "2")], Some(2));
        check(&[("SLURM_NTASKS", "8")], None); // a batch script, not `srun`
        check(&[("SLURM_NTASKS", "8"), ("PMIX_RANK", "0")], Some(8));
    }
}
