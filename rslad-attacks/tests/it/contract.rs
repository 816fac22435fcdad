//! What every registered attack must keep, as evaluations usually set it but for shortened searches.

use crate::brief::brief;
use crate::nets::{Broken, CLASSES, Mlp, bits, problem};
use candle_core::Tensor;
use rslad_attacks::attacks::ATTACKS;
use rslad_attacks::{Attack, Finished, Leave, Linf, Problem, Search, State, ascend, perturb};
use rslad_models::Classifier;

const N: usize = 9;

fn eps() -> Linf {
    "8/255".parse().unwrap()
}

/// Runs the claim for every attack.
fn check(claim: impl Fn(&dyn Attack, &Mlp, &Problem)) {
    for entry in ATTACKS {
        let attack = brief(entry);
        claim(attack.as_ref(), &Mlp::random(1), &problem(1, 100, N, eps(), CLASSES));
    }
}

fn run(attack: &dyn Attack, f: &dyn Classifier, p: &Problem) -> Tensor {
    perturb(f, attack, p).unwrap().x_adv
}

/// Runs a search to its end and adds what it finds.
fn finish(mut search: Box<dyn Search + '_>, f: &dyn Classifier, mut found: Vec<Finished>) -> Vec<Finished> {
    while search.lanes() > 0 {
        found.extend(search.advance(f).unwrap());
    }
    found
}

/// The points in the order of their ids.
fn points(mut found: Vec<Finished>) -> Vec<u32> {
    found.sort_by_key(|done| done.id);
    found.iter().flat_map(|done| bits(&done.x_adv)).collect()
}

#[test]
fn points_are_in_the_ball_and_in_the_unit_range_to_the_bit() {
    check(|attack, f, p| {
        let out = perturb(f, attack, p).unwrap();
        assert!(p.ball().contains(&out.x_adv).unwrap(), "{}", attack.name());
        assert!(out.linf.iter().all(|&d| f64::from(d) <= eps().get()), "{}", attack.name());
    });
}

#[test]
fn equal_seeds_give_equal_bits_however_the_batch_is_split() {
    check(|attack, f, p| {
        let whole = bits(&run(attack, f, p));
        assert_eq!(bits(&run(attack, f, p)), whole, "{}", attack.name());
        for size in [1, 2, 4] {
            let rows: Vec<u32> = (0..N as u32).collect();
            let parts = rows.chunks(size).flat_map(|rows| bits(&run(attack, f, &p.rows(rows).unwrap())));
            assert_eq!(parts.collect::<Vec<_>>(), whole, "{} in batches of {size}", attack.name());
        }
    });
}

#[test]
fn the_place_in_the_batch_does_not_matter() {
    check(|attack, f, p| {
        let reversed: Vec<u32> = (0..N as u32).rev().collect();
        let x_adv = run(attack, f, &p.rows(&reversed).unwrap());
        let back = x_adv.index_select(&Tensor::new(reversed, x_adv.device()).unwrap(), 0).unwrap();
        assert_eq!(bits(&back), bits(&run(attack, f, p)), "{}", attack.name());
    });
}

#[test]
fn the_model_is_untouched() {
    check(|attack, f, p| {
        let (weights, logits) = (f.bits(), bits(&f.logits(p.ball().x_nat()).unwrap()));
        run(attack, f, p);
        assert_eq!(f.bits(), weights, "{}", attack.name());
        assert_eq!(bits(&f.logits(p.ball().x_nat()).unwrap()), logits, "{}", attack.name());
    });
}

#[test]
fn eps_zero_gives_back_x_nat() {
    check(|attack, f, _| {
        let p = problem(1, 100, N, Linf::ZERO, CLASSES);
        assert_eq!(bits(&run(attack, f, &p)), bits(p.ball().x_nat()), "{}", attack.name());
    });
}

#[test]
fn a_model_that_answers_nan_yields_finite_points_and_is_not_robust() {
    check(|attack, _, p| {
        let out = perturb(&Broken, attack, p).unwrap();
        assert!(p.ball().contains(&out.x_adv).unwrap(), "{}", attack.name());
        assert_eq!((out.robust, out.non_finite), (vec![false; N], N), "{}", attack.name());
    });
}

#[test]
fn attacked_labels_hold_less_often() {
    check(|attack, f, p| {
        let large = problem(1, 100, 200, "0.1".parse().unwrap(), CLASSES);
        let held = |p: &Problem| perturb(f, attack, p).unwrap().robust.iter().filter(|r| **r).count();
        let clean = held(&problem(1, 100, 200, Linf::ZERO, CLASSES));
        // By chance a quarter of these labels is right at first; at this radius few survive.
        // The ratio of logits says little on four classes, a hundred random squares are few.
        let most = match attack.name() {
            "apgd_dlr" => clean * 2 / 3,
            "square" => clean * 5 / 6,
            _ => clean / 2,
        };
        assert!(clean >= 30 && held(&large) < most, "{}: {clean} -> {}", attack.name(), held(&large));
        assert_eq!(p.ids().len(), N);
    });
}

#[test]
fn a_search_saved_at_any_iteration_goes_on_to_the_same_bits() {
    check(|attack, f, p| {
        let whole = points(finish(attack.begin(p).unwrap(), f, Vec::new()));
        let (mut search, mut found) = (attack.begin(p).unwrap(), Vec::new());
        for iteration in 0.. {
            let restored = attack.restore(&through_text(search.save().unwrap())).unwrap();
            let points = points(finish(restored, f, found.clone()));
            assert_eq!(points, whole, "{} saved after {iteration}", attack.name());
            found.extend(search.advance(f).unwrap());
            if search.lanes() == 0 {
                break;
            }
        }
    });
}

/// What a file would do to the numbers.
fn through_text(state: State) -> State {
    State { json: serde_json::from_str(&state.json.to_string()).unwrap(), ..state }
}

#[test]
fn examples_admitted_on_the_way_end_where_they_would_have_alone() {
    check(|attack, f, p| {
        let whole = points(finish(attack.begin(p).unwrap(), f, Vec::new()));
        let [early, late] = [0..4, 4..N as u32].map(|rows| p.rows(&rows.collect::<Vec<_>>()).unwrap());
        let mut search = attack.begin(&early).unwrap();
        let found = search.advance(f).unwrap();
        search.admit(&late).unwrap();
        assert_eq!(points(finish(search, f, found)), whole, "{}", attack.name());
    });
}

#[test]
fn leaving_at_once_changes_no_verdict() {
    for entry in ATTACKS {
        let attack = brief(entry);
        let mut fell = 0;
        for (seed, eps) in (0..12).zip(["0.02", "0.05", "0.1", "0.2"].iter().cycle()) {
            let (f, p) = (Mlp::random(seed), problem(seed, 0, N, eps.parse().unwrap(), CLASSES));
            let [at_once, at_end] = [Leave::AtOnce, Leave::AtEnd].map(|leave| {
                let mut search = attack.search(&p, leave).unwrap();
                let x_adv = ascend(&f, search.as_mut(), p.ball(), p.ids()).unwrap();
                let predicted = f.logits(&x_adv).unwrap().argmax(1).unwrap().to_vec1::<u32>().unwrap();
                predicted.into_iter().zip(p.y().to_vec1::<u32>().unwrap()).map(|(p, y)| p == y).collect()
            });
            let at_once: Vec<bool> = at_once;
            assert_eq!(at_once, at_end, "{} with seed {seed} at {eps}", entry.name);
            fell += at_once.iter().filter(|stands| !**stands).count();
        }
        assert!(fell > 20, "{}: {fell} fell, too few to tell", entry.name);
    }
}

#[test]
fn strangers_are_not_admitted() {
    check(|attack, f, p| {
        let refused = |problem: &Problem| {
            let mut search = attack.begin(p).unwrap();
            search.advance(f).unwrap();
            let twice = search.admit(problem).map(|()| search.lanes());
            twice.map_err(|e| e.to_string())
        };
        let wider = problem(1, 200, 2, "0.1".parse().unwrap(), CLASSES);
        if let Ok(lanes) = refused(&wider) {
            assert_eq!(lanes, 2, "{}: only an empty search takes another radius", attack.name());
        }
        assert!(refused(&problem(1, 200, 2, eps(), CLASSES)).is_ok(), "{}", attack.name());
    });
}

#[test]
fn a_damaged_state_is_refused() {
    check(|attack, _, p| {
        let state = attack.begin(p).unwrap().save().unwrap();
        assert!(attack.restore(&state).is_ok());
        let refused = |state: &State| {
            let message = attack.restore(state).map(|_| ()).unwrap_err().to_string();
            assert!(message.contains("lacks") || message.contains("different sizes"), "{message}");
        };
        for name in state.tensors.keys() {
            let mut lacking = state.clone();
            lacking.tensors.remove(name);
            refused(&lacking);
        }
        for name in state.json.as_object().unwrap().keys() {
            let mut lacking = state.clone();
            lacking.json.as_object_mut().unwrap().remove(name);
            refused(&lacking);
            let mut short = state.clone();
            if let Some(list) = short.json[name].as_array_mut().filter(|list| !list.is_empty()) {
                list.pop();
                refused(&short);
            }
        }
    });
}
