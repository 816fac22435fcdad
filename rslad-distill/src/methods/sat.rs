//! Standard adversarial training: cross-entropy at the points that maximize it.
//!
//! Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks" (ICLR 2018).
//! The released challenge code attacks in train mode (`inner.view = "batch_statistics"`).

use super::{MethodEntry, ascend_cross_entropy, read};
use crate::error::Result;
use crate::method::{Forwards, Inner, Labels, Method, Plan, Point, Terms, Who, forward};
use rslad_attacks::losses::cross_entropy;
use serde::Deserialize;

pub(super) const ENTRY: MethodEntry = MethodEntry {
    name: "sat",
    about: "standard adversarial training (Madry et al. 2018)",
    outer: "CE(S(x'), y)",
    inner: "CE(S(x'), y)",
    keys: "none",
    build: |keys| Ok(Box::new(read::<Sat>(keys)?)),
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sat {}

impl Method for Sat {
    fn plan(&self) -> Plan {
        Plan { labels: Labels::Read, before: vec![], after: vec![forward("s_adv", Who::Student, Point::Adv)] }
    }

    fn inner<'a>(&self, f: &'a Forwards) -> Result<Inner<'a>> {
        ascend_cross_entropy(f)
    }

    fn outer(&self, f: &Forwards) -> Result<Terms> {
        Ok(Terms::one("ce_adv", cross_entropy(f.logits("s_adv")?, f.labels()?)?))
    }
}
