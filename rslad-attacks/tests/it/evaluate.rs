//! Evaluation from outside.

use crate::nets::{Broken, CLASSES, Mlp, images};
use candle_core::{Device, Tensor};
use rslad_attacks::{Evaluation, Examples, Linf, Observer, Place, Suite, Verdict, evaluate};
use rslad_models::Classifier;

const N: u64 = 40;

/// Examples in batches of `size`, the last id first if `backward`.
fn examples(size: usize, backward: Order) -> Vec<Examples> {
    let mut ids: Vec<u64> = (0..N).collect();
    if let Order::Backward = backward {
        ids.reverse();
    }
    ids.chunks(size).map(|ids| batch(ids, CLASSES)).collect()
}

#[derive(Clone, Copy)]
enum Order {
    Forward,
    Backward,
}

fn batch(ids: &[u64], n_classes: usize) -> Examples {
    let x: Vec<Tensor> = ids.iter().map(|&id| images(5, id, 1)).collect();
    let y: Vec<u32> = ids.iter().map(|id| (id % n_classes as u64) as u32).collect();
    Examples { ids: ids.to_vec(), x: Tensor::cat(&x, 0).unwrap(), y: Tensor::new(y, &Device::Cpu).unwrap() }
}

fn eps() -> Linf {
    "8/255".parse().unwrap()
}

/// One small step from a random start, so that the points depend on the draws.
const SUITE: &str = "
name = 'test'
about = 'for these tests'
[[column]]
name = 'fgsm'
attack = 'fgsm'
[[column]]
name = 'pgd1'
attack = 'pgd'
steps = 1
step_size = 'eps/16'
start = 'uniform'
clip_start = 'clip'
";

fn run(f: &dyn Classifier, batches: Vec<Examples>) -> rslad_attacks::Result<Evaluation> {
    let suite = Suite::parse("the test's suite", SUITE)?;
    let mut evaluation = evaluate(f, batches, &suite, eps(), 7, &mut ())?;
    evaluation.columns.iter_mut().for_each(|c| c.seconds = 0.0); // the only part that may differ
    Ok(evaluation)
}

#[test]
fn the_result_does_not_depend_on_batches_or_order() {
    let f = Mlp::random(2);
    let whole = run(&f, examples(N as usize, Order::Forward)).unwrap();
    for size in [1, 7, 16] {
        assert_eq!(run(&f, examples(size, Order::Forward)).unwrap(), whole, "batches of {size}");
        assert_eq!(run(&f, examples(size, Order::Backward)).unwrap(), whole, "batches of {size}, backward");
    }
    assert_eq!(whole.ids, (0..N).collect::<Vec<_>>());
}

#[test]
fn misclassified_images_are_not_attacked_and_not_robust() {
    let out = run(&Mlp::random(2), examples(16, Order::Forward)).unwrap();
    let clean = out.clean();
    assert!(clean.correct > 0 && clean.correct < clean.n);
    for column in &out.columns {
        for row in 0..clean.n {
            let attacked = out.clean_correct[row];
            assert!(attacked || !column.robust[row]);
            assert_eq!(column.linf[row] > 0.0, attacked, "{} row {row}", column.name);
            assert_eq!(attacked, out.clean_predictions[row] == out.labels[row]);
        }
        assert!(column.accuracy().correct <= clean.correct);
        assert!(f64::from(column.max_linf()) <= eps().get());
    }
}

#[test]
fn a_model_that_answers_nan_is_never_right_and_says_so() {
    let out = run(&Broken, examples(16, Order::Forward)).unwrap();
    assert_eq!((out.clean().correct, out.clean_non_finite), (0, N as usize));
    let warnings = out.summary().warnings;
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("clean: ") && warnings[0].ends_with(": 40"),
        "{warnings:?}"
    );
}

#[test]
fn observers_hear_of_each_attack_in_order() {
    #[derive(Default)]
    struct Tape(Vec<String>);
    impl Observer for Tape {
        fn clean(&mut self, ids: &[u64], predictions: &[u32]) {
            assert_eq!(ids.len(), predictions.len());
            self.0.push(format!("clean {}", ids.len()));
        }
        fn stage(&mut self, place: &Place<'_>, standing: usize, known: usize) {
            assert!(standing < N as usize && known == 0);
            self.0.push(format!("{} {} {}/{}", place.column, place.attack, place.number + 1, place.of));
        }
        fn advanced(&mut self, place: &Place<'_>, lanes: usize) {
            assert!(lanes <= 30 && place.attack.starts_with("fgsm"));
        }
        fn verdicts(&mut self, _: &Place<'_>, verdicts: &[Verdict]) {
            assert!(verdicts.iter().all(|v| v.finite && v.x_adv.is_some()));
        }
    }
    let mut tape = Tape::default();
    let suite =
        "name = 'a'\nabout = 'b'\n[[column]]\nname = 'once'\nattack = 'fgsm'\n[[column]]\nname = 'twice'
        attack = 'worst_case'\n[[column.stages]]\nattack = 'fgsm'\n[[column.stages]]\nattack = 'fgsm'";
    let suite = Suite::parse("the test's suite", suite).unwrap();
    evaluate(&Mlp::random(2), examples(30, Order::Forward), &suite, eps(), 7, &mut tape).unwrap();
    assert_eq!(tape.0, ["clean 30", "clean 10", "once fgsm 1/1", "twice fgsm 1/2", "twice fgsm_2 2/2"]);
}

#[test]
fn wrong_examples_are_refused() {
    let message = |batches| run(&Mlp::random(2), batches).unwrap_err().to_string();
    assert!(message(vec![batch(&[1, 2], CLASSES), batch(&[2], CLASSES)]).contains("a list with 2 twice"));
    assert!(message(vec![batch(&[6], 7)]).contains("a label is 6, expected a class below 4"));
    let bright = Examples { x: (images(5, 0, 1) * 255.0).unwrap(), ..batch(&[0], CLASSES) };
    assert!(message(vec![bright]).contains("scale images to [0, 1]"));
    let empty = run(&Mlp::random(2), Vec::new()).unwrap();
    assert_eq!(empty.clean().n, 0);
}
