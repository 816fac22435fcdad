//! Properties of APGD beyond the contract.

use crate::nets::{CLASSES, Mlp, problem};
use proptest::prelude::*;
use rslad_attacks::{Leave, Linf, Search, attacks};
use std::collections::HashMap;

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
    fn the_best_loss_never_decreases(seed in any::<u64>(), eps in 0.01..0.3f64, iterations in 2usize..30) {
        let f = Mlp::random(seed);
        let p = problem(seed, 0, 6, Linf::new(eps).unwrap(), CLASSES);
        for name in ["apgd_ce", "apgd_dlr", "apgd_margin", "apgd_t"] {
            let entry = attacks::find(name).unwrap();
            let keys = entry.usual.replace("iterations = 100", &format!("iterations = {iterations}"));
            let attack = entry.build(&keys.parse().unwrap()).unwrap();
            let mut search = attack.search(&p, Leave::AtEnd).unwrap();
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
