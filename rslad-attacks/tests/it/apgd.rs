//! Properties of APGD beyond the contract.

use crate::nets::{CLASSES, Mlp, problem};
use proptest::prelude::*;
use rslad_attacks::attacks::{ApgdCe, ApgdDlr, ApgdT};
use rslad_attacks::{Leave, Linf, Problem, Result, Search, ascend};
use rslad_models::Classifier;
use std::collections::HashMap;

/// The three, as functions of when fallen examples leave.
type Begin<'a> = Box<dyn Fn(&'a Problem, Leave) -> Result<Box<dyn Search + 'a>> + 'a>;

/// The APGD attacks from these keys.
struct Three(ApgdCe, ApgdDlr, ApgdT);

impl Three {
    fn new(iterations: usize, restarts: usize) -> Self {
        let keys = format!("iterations = {iterations}\nrestarts = {restarts}\nrho = 0.75\neot = 1");
        let targeted = format!("{keys}\ntargets = 9");
        Self(
            toml::from_str(&keys).unwrap(),
            toml::from_str(&keys).unwrap(),
            toml::from_str(&targeted).unwrap(),
        )
    }

    fn each(&self) -> [(&'static str, Begin<'_>); 3] {
        let Self(ce, dlr, t) = self;
        [
            ("apgd_ce", Box::new(|p, leave| ce.search(p, leave))),
            ("apgd_dlr", Box::new(|p, leave| dlr.search(p, leave))),
            ("apgd_t", Box::new(|p, leave| t.search(p, leave))),
        ]
    }
}

fn verdicts(f: &Mlp, mut search: Box<dyn Search + '_>, p: &Problem) -> Vec<bool> {
    let x_adv = ascend(f, search.as_mut(), p.ball(), p.ids()).unwrap();
    let predicted = f.logits(&x_adv).unwrap().argmax(1).unwrap().to_vec1::<u32>().unwrap();
    predicted.into_iter().zip(p.y().to_vec1::<u32>().unwrap()).map(|(p, y)| p == y).collect()
}

/// By id, the run a lane is in, its iteration and its best loss.
fn best_losses(search: &dyn Search) -> HashMap<u64, (u64, u64, f32)> {
    let state = search.save().unwrap();
    let list = |name: &str| -> Vec<u64> { serde_json::from_value(state.json[name].clone()).unwrap() };
    let loss = state.tensors["loss_best"].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let parts = list("run").into_iter().zip(list("iteration")).zip(loss);
    list("ids").into_iter().zip(parts.map(|((run, iteration), loss)| (run, iteration, loss))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn leaving_at_once_changes_no_verdict(
        seed in any::<u64>(), eps in 0.01..0.3f64, iterations in 1usize..14, restarts in 1usize..3,
    ) {
        let f = Mlp::random(seed);
        let p = problem(seed, 0, 8, Linf::new(eps).unwrap(), CLASSES);
        let three = Three::new(iterations, restarts);
        for (name, begin) in three.each() {
            let [at_once, at_end] = [Leave::AtOnce, Leave::AtEnd].map(|l| verdicts(&f, begin(&p, l).unwrap(), &p));
            prop_assert_eq!(at_once, at_end, "{}", name);
        }
    }

    #[test]
    fn the_best_loss_never_decreases(seed in any::<u64>(), eps in 0.01..0.3f64, iterations in 2usize..30) {
        let f = Mlp::random(seed);
        let p = problem(seed, 0, 6, Linf::new(eps).unwrap(), CLASSES);
        let three = Three::new(iterations, 1);
        for (name, begin) in three.each() {
            let mut search = begin(&p, Leave::AtEnd).unwrap();
            let mut before = HashMap::new();
            loop {
                search.advance(&f).unwrap();
                if search.lanes() == 0 {
                    break;
                }
                let now = best_losses(search.as_ref());
                for (id, (run, iteration, loss)) in &now {
                    if let Some((same, then, best)) = before.get(id) && run == same && then < iteration && *then > 0 {
                        prop_assert!(loss >= best, "{} of example {}: {} after {}", name, id, loss, best);
                    }
                }
                before = now;
            }
        }
    }
}
