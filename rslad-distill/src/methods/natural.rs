//! Natural training: cross-entropy on clean images, no attack. The row that adversaries bring to 0.

use super::{MethodEntry, read};
use crate::error::Result;
use crate::method::{Forwards, Inner, Labels, Method, Plan, Point, Terms, Who, forward};
use rslad_attacks::losses::cross_entropy;
use serde::Deserialize;

pub(super) const ENTRY: MethodEntry = MethodEntry {
    name: "natural",
    about: "cross-entropy on clean images",
    outer: "CE(S(x), y)",
    inner: "none",
    keys: "none",
    build: |keys| Ok(Box::new(read::<Natural>(keys)?)),
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Natural {}

impl Method for Natural {
    fn plan(&self) -> Plan {
        Plan { labels: Labels::Read, before: vec![], after: vec![forward("s_nat", Who::Student, Point::Nat)] }
    }

    fn inner<'a>(&self, _: &'a Forwards) -> Result<Inner<'a>> {
        Ok(Inner::None)
    }

    fn outer(&self, f: &Forwards) -> Result<Terms> {
        Ok(Terms::one("ce_nat", cross_entropy(f.logits("s_nat")?, f.labels()?)?))
    }
}
