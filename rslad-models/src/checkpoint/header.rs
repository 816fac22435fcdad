//! The header of a safetensors file, looked at before it is parsed.
//!
//! The parser bounds a header at 100 MB and builds all that it describes: a name, a shape and an entry of a map
//! for every few bytes. Three hundred thousand tensors in 20 MB took 280 MB and seconds before anything could be
//! refused, so what costs memory is counted in the text first.

use super::fault::Fault;
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;

/// No network here has nearly as many tensors; a file with more is not one of ours.
pub(super) const MOST_TENSORS: usize = 10_000;
/// A tensor takes some 120 bytes of the header.
const LONGEST: u64 = 4 << 20;
/// Every tensor opens a brace and quotes five strings; the metadata is the rest.
const MOST_BRACES: usize = 2 * MOST_TENSORS;
const MOST_QUOTES: usize = 20 * MOST_TENSORS;
/// A tensor has five and one for each side but the first.
const MOST_COMMAS: usize = 20 * MOST_TENSORS;

/// The header of any safetensors file, parsed where that costs little.
///
/// # Errors
/// When there is none, it is damaged, or it describes more than any network has.
pub fn header(bytes: &[u8]) -> Result<Metadata, Fault> {
    let other = |why: &dyn std::fmt::Display| {
        Fault::NotWeights(format!("is no safetensors file, or a damaged one ({why}); wholly copied?"))
    };
    let length = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    if length > bytes.len() as u64 {
        return Err(other(&format!("its header would have {length} bytes")));
    }
    if length > LONGEST {
        return Err(Fault::Limit { what: format!("a header of {length} bytes"), most: LONGEST });
    }
    let text = bytes.iter().skip(8).take(length as usize);
    let count = |letter: u8| text.clone().filter(|&&byte| byte == letter).count();
    if count(b'{') > MOST_BRACES || count(b'"') > MOST_QUOTES || count(b',') > MOST_COMMAS {
        return Err(Fault::limit(
            "a header of too many tensors, or of tensors of too many sides",
            MOST_TENSORS,
        ));
    }
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| other(&e))?;
    Ok(header)
}
