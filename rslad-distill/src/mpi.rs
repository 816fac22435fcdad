//! Ranks that are processes of an MPI: `mpirun -n 4 rslad train ...`, or `srun` where Slurm starts them.
//!
//! Messages go through host memory, sums of tensors on GPUs from card to card where the build has NCCL
//! (`nccl.rs`). Launching, finding each other and ending all when one dies are the MPI's business.

use crate::error::{Error, Result};
use crate::ranks::Reduce;
use candle_core::Tensor;
use mpi::collective::SystemOperation;
use mpi::datatype::PartitionMut;
use mpi::environment::{Threading, Universe};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};

/// The ranks of this process's MPI.
pub struct Mpi {
    #[cfg(feature = "nccl")]
    cards: std::cell::OnceCell<crate::nccl::Cards>,
    world: SimpleCommunicator,
    _universe: Universe, // dropped last: what ends MPI, and waits for the others
}

impl Mpi {
    /// Joins the others.
    ///
    /// # Errors
    /// When MPI was begun before in this process.
    pub fn begin() -> Result<Self> {
        let begun = || Error::Ranks("MPI was begun before in this process, expected once".into());
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled).ok_or_else(begun)?;
        Ok(Self {
            #[cfg(feature = "nccl")]
            cards: std::cell::OnceCell::new(),
            world: universe.world(),
            _universe: universe,
        })
    }

    /// Connects the GPUs of all ranks; from now on they add up tensors among themselves. All ranks call it
    /// or none.
    ///
    /// # Errors
    /// When the device is not a GPU, or NCCL does not come about.
    #[cfg(feature = "nccl")]
    pub fn connect(&self, device: &candle_core::Device) -> Result<()> {
        let cards = crate::nccl::Cards::connect(self, device)?;
        let twice = |_| Error::Ranks("GPUs were connected before, expected once".into());
        self.cards.set(cards).map_err(twice)
    }

    /// Ends all ranks at once with an exit code: for a failure that the others do not know of.
    pub fn abort(&self, code: u8) -> ! {
        self.world.abort(i32::from(code))
    }
}

impl Reduce for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn ranks(&self) -> usize {
        self.world.size() as usize
    }

    fn sum(&self, values: Tensor) -> Result<Tensor> {
        #[cfg(feature = "nccl")]
        if let Some(cards) = self.cards.get() {
            return cards.sum(&values);
        }
        let own: Vec<f32> = values.to_vec1()?;
        let mut sum = own.clone();
        self.world.all_reduce_into(&own[..], &mut sum[..], SystemOperation::sum());
        Ok(Tensor::new(sum, values.device())?)
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let too_long = || Error::Ranks("more than 2 GiB between ranks at a time, expected less".into());
        let length = i32::try_from(own.len()).map_err(|_| too_long())?;
        let mut lengths = vec![0i32; self.ranks()];
        self.world.all_gather_into(&length, &mut lengths[..]);
        // Nothing is sent as one byte: the address of an empty slice is what MPI calls `MPI_IN_PLACE`.
        let own = if own.is_empty() { &[0] } else { own };
        let sent: Vec<i32> = lengths.iter().map(|length| (*length).max(1)).collect();
        let (mut starts, mut end) = (vec![], 0i32);
        for length in &sent {
            starts.push(end);
            end = end.checked_add(*length).ok_or_else(too_long)?;
        }
        let mut all = vec![0u8; end as usize];
        let mut parts = PartitionMut::new(&mut all[..], &sent[..], &starts[..]);
        self.world.all_gather_varcount_into(own, &mut parts);
        let of_rank = |(start, length): (&i32, &i32)| all[*start as usize..][..*length as usize].to_vec();
        Ok(starts.iter().zip(&lengths).map(of_rank).collect())
    }
}
