//! What every file from outside must do to the reader, whatever it holds.

use rslad_models::checkpoint::{Fault, StateDict};

/// A state dict is no larger than its file allows; a fault says something.
pub fn check(file: &[u8], read: Result<StateDict, Fault>) {
    match read {
        Ok(state) => {
            let elements: usize = state.tensors.values().map(|t| t.elem_count()).sum();
            assert!(elements <= 2 * file.len(), "{elements} elements from {} bytes", file.len());
        }
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
}
