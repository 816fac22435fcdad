//! Sign ascent for random nets, images, radii, step sizes, starts and step counts.

use crate::nets::{CLASSES, Linear, Mlp, bits, problem};
use candle_core::Tensor;
use proptest::prelude::*;
use rslad_attacks::objectives::{CrossEntropy, KlTo, Margin};
use rslad_attacks::{ByLabels, ClipStart, Linf, Order, Problem, SignAscent, Start, ascend, attacks, perturb};
use rslad_models::randomness::Purpose;
use rslad_models::{Classifier, Objective};

#[derive(Clone, Copy, Debug)]
enum Loss {
    CrossEntropy,
    Margin,
    KlToClean,
}

#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    eps: f64,
    ascent: SignAscent,
    loss: Loss,
    n: usize,
    batch: usize,
}

fn any_case() -> impl Strategy<Value = Case> {
    let eps = prop_oneof![Just(0.0), Just(8.0 / 255.0), Just(0.031), 0.0..=1.0f64];
    let start = prop_oneof![
        Just(Start::Natural),
        Just(Start::Uniform),
        (0.0..0.5f64).prop_map(|std| Start::Gaussian { std }),
    ];
    let clip_start = prop_oneof![Just(ClipStart::Clip), Just(ClipStart::Keep)];
    let order = prop_oneof![Just(Order::ClampProject), Just(Order::ProjectClamp)];
    let loss = prop_oneof![Just(Loss::CrossEntropy), Just(Loss::Margin), Just(Loss::KlToClean)];
    let ascent = (0usize..6, 1e-6..2.0f64, start, clip_start, order);
    (any::<u64>(), eps, ascent, loss, 1usize..7, 1usize..7).prop_map(|(seed, eps, ascent, loss, n, batch)| {
        let (steps, step_size, start, clip_start, order) = ascent;
        Case { seed, eps, ascent: SignAscent { steps, step_size, start, clip_start, order }, loss, n, batch }
    })
}

fn objective(loss: Loss, f: &Mlp, p: &Problem) -> Box<dyn Objective> {
    match loss {
        Loss::CrossEntropy => Box::new(CrossEntropy::new(p.y()).unwrap()),
        Loss::Margin => Box::new(Margin::new(p.y(), 0.5).unwrap()),
        Loss::KlToClean => Box::new(KlTo::new(&f.logits(p.ball().x_nat()).unwrap()).unwrap()),
    }
}

fn run(case: &Case, f: &Mlp, p: &Problem) -> Tensor {
    let mut search = case.ascent.search(p, Purpose::INNER_START, objective(case.loss, f, p)).unwrap();
    ascend(f, search.as_mut(), p.ball(), p.ids()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn sign_ascent_keeps_the_contract(case in any_case()) {
        let f = Mlp::random(case.seed);
        let weights = f.bits();
        let p = problem(case.seed, 0, case.n, Linf::new(case.eps).unwrap(), CLASSES);
        let x_adv = run(&case, &f, &p);

        prop_assert!(p.ball().contains(&x_adv).unwrap()); // exact, and false for NaN
        let rows: Vec<u32> = (0..case.n as u32).collect();
        let parts = rows.chunks(case.batch).flat_map(|rows| bits(&run(&case, &f, &p.rows(rows).unwrap())));
        prop_assert_eq!(parts.collect::<Vec<_>>(), bits(&x_adv));
        prop_assert_eq!(f.bits(), weights);
        if case.eps == 0.0 {
            prop_assert_eq!(bits(&x_adv), bits(p.ball().x_nat()));
        }
    }

    #[test]
    fn both_orders_of_the_projection_give_the_same_points(case in any_case()) {
        let f = Mlp::random(case.seed);
        let p = problem(case.seed, 0, case.n, Linf::new(case.eps).unwrap(), CLASSES);
        let with = |order| {
            let ascent = SignAscent { order, ..case.ascent.clone() };
            bits(&run(&Case { ascent, ..case.clone() }, &f, &p))
        };
        prop_assert_eq!(with(Order::ClampProject), with(Order::ProjectClamp));
    }

    #[test]
    fn a_search_by_labels_finds_what_the_fixed_objective_finds(case in any_case()) {
        let f = Mlp::random(case.seed);
        let p = problem(case.seed, 0, case.n, Linf::new(case.eps).unwrap(), CLASSES);
        let case = Case { loss: Loss::CrossEntropy, ..case };
        let make: ByLabels<'_> = Box::new(|y| Ok(Box::new(CrossEntropy::new(y)?)));
        let mut search = case.ascent.search_by_labels(&p, Purpose::INNER_START, make).unwrap();
        let x_adv = ascend(&f, search.as_mut(), p.ball(), p.ids()).unwrap();
        prop_assert_eq!(bits(&x_adv), bits(&run(&case, &f, &p)));
    }
}

#[test]
fn first_order_attacks_reach_the_worst_point_of_a_linear_model() {
    let f = Linear::random(4);
    let p = problem(4, 0, 16, "8/255".parse().unwrap(), 2);
    for name in ["fgsm", "pgd", "cw_inf"] {
        let attack = attacks::find(name).unwrap().usually();
        let x_adv = perturb(&f, attack.as_ref(), &p).unwrap().x_adv;
        // Label 0 wins where the score is positive: its worst point is against the weights' signs.
        let away = (p.y().to_dtype(candle_core::DType::F32).unwrap() * 2.0).unwrap();
        let away = (away - 1.0).unwrap().reshape((16, 1)).unwrap();
        let signs = f.0.sign().unwrap().to_device(x_adv.device()).unwrap();
        let direction = away.broadcast_mul(&signs).unwrap().reshape(x_adv.shape()).unwrap();
        let beyond = (p.ball().x_nat() + direction).unwrap();
        let worst = p.ball().project(&beyond, Order::ProjectClamp).unwrap();
        assert_eq!(bits(&x_adv), bits(&worst), "{name}");
    }
}
