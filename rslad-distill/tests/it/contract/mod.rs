//! What every registered method promises: the same questions to each, and none may be left out.

mod cases;
mod keys;
mod logits;
mod losses;
mod steps;

use cases::CASES;
use rslad_distill::METHODS;
use rslad_distill::methods::MethodEntry;

#[test]
fn every_method_is_under_this_contract() {
    for MethodEntry { name, about, outer, inner, keys, .. } in METHODS {
        assert!(CASES.iter().any(|case| case.name() == *name), "{name} has no case here");
        let described = [about, outer, inner, keys].iter().all(|text| !text.is_empty());
        assert!(described, "{name} is not described");
    }
}
