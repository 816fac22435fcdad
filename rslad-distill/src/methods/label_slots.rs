//! Any label in any slot: what the RSLAD paper varies, as keys.
//!
//! Adversarial training has three places for a label: the attack, the loss at x' and the loss at x. The
//! paper's thesis is that the robust teacher's soft label belongs into all three. With a key for each,
//! an ablation is a list of recipes: all `teacher` is RSLAD, all `hard` with alpha = 1 is SAT, `student`
//! in the attack and at x' with `hard` at x is TRADES' pair of losses.
//!
//! Source: Zi et al., "Revisiting Adversarial Robustness Distillation" (ICCV 2021), Table 1, whose rows
//! differ in these labels.

use super::{MethodEntry, ascend_cross_entropy, ascend_kl, read, within};
use crate::error::Result;
use crate::method::{
    ForwardSpec, Forwards, Inner, Labels, Method, Plan, Point, Terms, TermsRead, Who, forward,
};
use candle_core::Tensor;
use rslad_attacks::losses::{cross_entropy, kl};
use serde::Deserialize;

pub(super) const ENTRY: MethodEntry = MethodEntry {
    name: "label_slots",
    about: "RSLAD's ablation: any label in the attack, at x' and at x (Zi et al. 2021)",
    outer: "(1-alpha) D(outer_nat, S(x)) + alpha D(outer_adv, S(x')), D = CE for a hard label, else KL",
    inner: "D(inner, S(x'))",
    keys: "inner, outer_adv, outer_nat (each \"hard\": y, \"student\": S(x), \"natural_teacher\": N(x) of \
           [second_teacher], \"teacher\": T(x)), alpha (5/6), kl_scale (1; released: 0.1; soft labels only)",
    build: |keys| {
        let method: LabelSlots = read(keys)?;
        within("alpha", method.alpha, 0.0, 1.0)?;
        within("kl_scale", method.kl_scale, 1e-6, 1e6)?;
        if method.alpha == 0.0 && method.outer_nat == Label::Student {
            return Err("`method.alpha` is 0, expected above 0 with `outer_nat = \"student\"`: \
                        S(x) as its own label leaves no loss"
                .into());
        }
        Ok(Box::new(method))
    },
};

/// Whose answer a slot holds; all of them at x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Label {
    /// y.
    Hard,
    /// The student's own: in eval mode for the attack; in train mode in the loss, with the gradient
    /// through both arguments, as TRADES.
    Student,
    /// The second teacher's.
    NaturalTeacher,
    /// The robust teacher's.
    Teacher,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelSlots {
    inner: Label,
    outer_adv: Label,
    outer_nat: Label,
    alpha: f64,
    kl_scale: f64,
}

impl LabelSlots {
    fn holds(&self, label: Label) -> bool {
        [self.inner, self.outer_adv, self.outer_nat].contains(&label)
    }

    /// A slot of the loss: its weight and its value `[N]`.
    fn slot(&self, f: &Forwards, label: Label, logits: &Tensor) -> Result<(f64, Tensor)> {
        let target = match label {
            Label::Hard => return Ok((1.0, cross_entropy(logits, f.labels()?)?)),
            Label::Student => "s_nat",
            Label::NaturalTeacher => "st_nat",
            Label::Teacher => "t_nat",
        };
        Ok((self.kl_scale, kl(f.logits(target)?, logits)?))
    }
}

impl Method for LabelSlots {
    fn plan(&self) -> Plan {
        let asked: [(bool, ForwardSpec); 3] = [
            (self.holds(Label::Teacher), forward("t_nat", Who::Teacher, Point::Nat)),
            (self.holds(Label::NaturalTeacher), forward("st_nat", Who::SecondTeacher, Point::Nat)),
            (self.inner == Label::Student, forward("s_eval", Who::FrozenStudent, Point::Nat)),
        ];
        Plan {
            labels: if self.holds(Label::Hard) { Labels::Read } else { Labels::Unread },
            before: asked.into_iter().filter_map(|(asked, spec)| asked.then_some(spec)).collect(),
            after: vec![
                forward("s_adv", Who::Student, Point::Adv),
                forward("s_nat", Who::Student, Point::Nat),
            ],
        }
    }

    fn inner<'a>(&self, f: &'a Forwards) -> Result<Inner<'a>> {
        match self.inner {
            Label::Hard => ascend_cross_entropy(f),
            Label::Student => ascend_kl(f, "s_eval"),
            Label::NaturalTeacher => ascend_kl(f, "st_nat"),
            Label::Teacher => ascend_kl(f, "t_nat"),
        }
    }

    fn outer(&self, f: &Forwards) -> Result<Terms> {
        let (adv_scale, adv) = self.slot(f, self.outer_adv, f.logits("s_adv")?)?;
        let (nat_scale, nat) = self.slot(f, self.outer_nat, f.logits("s_nat")?)?;
        Ok(Terms::of("adv", self.alpha * adv_scale, adv).plus("nat", (1.0 - self.alpha) * nat_scale, nat))
    }

    fn terms_read(&self) -> TermsRead {
        // The student's own label is a forward of its own.
        match [self.outer_adv, self.outer_nat].contains(&Label::Student) {
            true => TermsRead::SeveralForwards,
            false => TermsRead::OneForward,
        }
    }
}
