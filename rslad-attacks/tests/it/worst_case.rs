//! Ensembles from outside.

use crate::nets::{CLASSES, Linear, Mlp, bits, problem};
use proptest::prelude::*;
use rslad_attacks::{Attack, Linf, Problem, attacks, perturb};

fn ensemble(stages: &[&str]) -> Box<dyn Attack> {
    let text: Vec<String> = stages.iter().map(|stage| format!("[[stages]]\n{stage}")).collect();
    attacks::find("worst_case").unwrap().build(&text.join("\n").parse().unwrap()).unwrap()
}

fn single(text: &str) -> Box<dyn Attack> {
    let mut keys: toml::Table = text.parse().unwrap();
    let name = keys.remove("attack").unwrap();
    attacks::find(name.as_str().unwrap()).unwrap().build(&keys).unwrap()
}

const WEAK: &str = "attack = 'pgd'\nsteps = 1\nstep_size = 'eps/8'\nstart = 'uniform'\nclip_start = 'clip'";
const APGD: &str = "attack = 'apgd_ce'\niterations = 4\nrestarts = 1\nrho = 0.75\neot = 1";
const SQUARE: &str = "attack = 'square'\nqueries = 20\nrestarts = 1\np_init = 0.8\nschedule = 'fixed'";

fn standing(p: &Problem, f: &Mlp, attack: &dyn Attack) -> Vec<bool> {
    perturb(f, attack, p).unwrap().robust
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn an_ensemble_is_the_worst_case_of_its_attacks(seed in any::<u64>(), eps in 0.01..0.2f64) {
        let f = Mlp::random(seed);
        let p = problem(seed, 0, 10, Linf::new(eps).unwrap(), CLASSES);
        let parts = [WEAK, APGD, SQUARE].map(|stage| standing(&p, &f, single(stage).as_ref()));
        let whole = perturb(&f, ensemble(&[WEAK, APGD, SQUARE]).as_ref(), &p).unwrap();
        for row in 0..10 {
            prop_assert_eq!(whole.robust[row], parts.iter().all(|part| part[row]), "row {}", row);
            // What stands comes back as it was.
            prop_assert!(!whole.robust[row] || whole.linf[row] == 0.0);
        }
    }
}

#[test]
fn a_fallen_example_keeps_the_point_of_the_first_attack_that_felled_it() {
    let f = Mlp::random(3);
    let p = problem(3, 0, 30, "0.1".parse().unwrap(), CLASSES);
    let first = perturb(&f, single(WEAK).as_ref(), &p).unwrap();
    let whole = perturb(&f, ensemble(&[WEAK, APGD]).as_ref(), &p).unwrap();
    assert!(first.robust.iter().any(|r| *r) && first.robust.iter().any(|r| !*r));
    for row in (0..30).filter(|row| !first.robust[*row]) {
        assert_eq!(bits(&whole.x_adv.get(row).unwrap()), bits(&first.x_adv.get(row).unwrap()), "row {row}");
    }
}

#[test]
fn two_classes_are_enough_for_auto_attack() {
    let f = Linear::random(4);
    let p = problem(4, 0, 16, "8/255".parse().unwrap(), 2);
    let fgsm = perturb(&f, attacks::find("fgsm").unwrap().usually().as_ref(), &p).unwrap();
    let all = perturb(&f, attacks::find("auto_attack").unwrap().usually().as_ref(), &p).unwrap();
    assert!(fgsm.robust.iter().any(|r| *r) && fgsm.robust.iter().any(|r| !*r));
    assert_eq!(all.robust, fgsm.robust, "on a linear model one step is the worst case");
}
