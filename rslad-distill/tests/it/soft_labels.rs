//! The cache of a teacher's answers: the same bits with it and without, whatever happens to its files.

use crate::common::by_hand::{bits, stream};
use crate::common::micro::{inputs, micro, teacher, train_in};
use rslad_data::{Augment, Flip, Loader, Split};
use rslad_distill::soft_labels::{Asked, Source};
use rslad_distill::{Error, METHODS, Outcome, Recipe, RunDir, SoftLabels, methods, train};
use rslad_models::{Classifier, Frozen};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const AUGMENT: Augment = Augment { crop: 1, flip: Flip::Horizontal };
const PLENTY: u64 = 1 << 30;

fn source(teacher: &str) -> Source {
    Source {
        teacher: teacher.into(),
        data_sha256: "digits".into(),
        images: 1437,
        augment: AUGMENT,
        classes: 10,
    }
}

fn open(root: &Path) -> SoftLabels {
    SoftLabels::open(root, source("a"), PLENTY).unwrap()
}

/// Asks for an epoch of 40 images in batches of 16, and compares with the teacher. What the cache did.
fn check(cache: &SoftLabels, teacher: &Frozen, epoch: u64) -> Asked {
    let before = cache.asked();
    let digits = rslad_data::open("digits", Split::Train).unwrap().limit(40).unwrap();
    for batch in Loader::new(&digits, 16, AUGMENT, 3).unwrap().epoch(epoch) {
        let batch = batch.unwrap();
        let (ours, truth) = (cache.logits(teacher, &batch).unwrap(), teacher.logits(batch.x()).unwrap());
        assert_eq!(bits(&ours), bits(&truth));
    }
    let after = cache.asked();
    Asked { found: after.found - before.found, computed: after.computed - before.computed }
}

fn segments(cache: &SoftLabels) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cache.folder()).unwrap().map(|e| e.unwrap().path());
    let is_segment = |p: &PathBuf| p.file_name().unwrap().to_string_lossy().starts_with("labels-");
    let mut segments: Vec<PathBuf> = entries.filter(is_segment).collect();
    segments.sort();
    segments
}

#[test]
fn a_run_is_the_same_to_the_bit_with_it_and_without() {
    let ard = "{ name = 'ard', alpha = 0.5, tau = 5.0, kl_scale = 1.0 }";
    let runs: [&[(&str, &str)]; 3] =
        [&[], &[("method", ard), ("inner.view", "batch_statistics")], &[("data.micro_batch", "8")]];
    let root = tempfile::tempdir().unwrap();
    let trained = |recipe: &Recipe, cached: bool| {
        let mut inputs = inputs(recipe);
        inputs.soft_labels = cached.then(|| open(root.path()));
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(train_in(dir.path(), recipe, &inputs, &mut ()), Outcome::Finished);
        let files = ["last.safetensors", "best.safetensors", "metrics.jsonl"];
        let bytes = files.map(|file| std::fs::read(dir.path().join(file)).unwrap());
        (bytes, inputs.soft_labels.map(|cache| cache.asked()))
    };
    for (i, changes) in runs.into_iter().enumerate() {
        let recipe = micro(changes);
        let (plain, _) = trained(&recipe, false);
        let (cached, asked) = trained(&recipe, true);
        assert!(plain == cached, "{changes:?}");
        let Asked { found, computed } = asked.unwrap();
        assert_eq!(found + computed, 4 * 80);
        // The first run meets a view twice now and then; those after it find every view there.
        assert!(if i == 0 { found > 0 && computed > 0 } else { computed == 0 }, "{changes:?}: {asked:?}");
    }
    let (_, asked) = trained(&micro(&[("seed", "8")]), true);
    let Asked { found, computed } = asked.unwrap();
    assert!(found > 0 && computed > 0, "another seed shares what it can: {asked:?}");
}

#[test]
fn answers_are_shared_across_runs_and_damage_is_asked_for_again() {
    let (root, teacher) = (tempfile::tempdir().unwrap(), teacher());
    assert_eq!(check(&open(root.path()), &teacher, 1), Asked { found: 0, computed: 40 });
    assert_eq!(check(&open(root.path()), &teacher, 1), Asked { found: 40, computed: 0 });
    let whole = {
        let cache = open(root.path());
        check(&cache, &teacher, 2);
        let [path] = <[PathBuf; 1]>::try_from(segments(&cache)).unwrap();
        (path.clone(), std::fs::read(path).unwrap())
    };
    let (path, bytes) = whole;
    let mut draws = stream("damage", 0);
    for round in 0..60 {
        let mut damaged = bytes.clone();
        match round % 3 {
            0 => damaged.truncate(draws.below(bytes.len() as u32) as usize),
            1 => damaged[draws.below(bytes.len() as u32) as usize] ^= 1 << draws.below(8),
            _ => damaged.extend((0..draws.below(100)).map(|_| draws.below(256) as u8)),
        }
        std::fs::write(&path, &damaged).unwrap();
        let cache = open(root.path());
        let Asked { computed, .. } = check(&cache, &teacher, 1);
        assert!(round % 3 == 0 || computed <= 40, "round {round}");
        assert_eq!(check(&cache, &teacher, 1).computed, 0, "round {round}: what was asked again is there");
        drop(cache);
        assert_eq!(check(&open(root.path()), &teacher, 1).computed, 0, "round {round}: and stays there");
    }
}

#[test]
fn damage_while_it_is_open_is_noticed() {
    let (root, teacher) = (tempfile::tempdir().unwrap(), teacher());
    let cache = open(root.path());
    check(&cache, &teacher, 1);
    let [path] = <[PathBuf; 1]>::try_from(segments(&cache)).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 16;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(check(&cache, &teacher, 1), Asked { found: 39, computed: 1 });
}

#[test]
fn two_that_write_at_once_have_segments_of_their_own_and_share_both_later() {
    let (root, teacher) = (tempfile::tempdir().unwrap(), teacher());
    let (one, two) = (open(root.path()), open(root.path()));
    check(&one, &teacher, 1);
    check(&two, &teacher, 2);
    assert_eq!(segments(&one).len(), 2);
    drop((one, two));
    let both = open(root.path());
    assert_eq!((check(&both, &teacher, 1).computed, check(&both, &teacher, 2).computed), (0, 0));
    assert_eq!(segments(&both).len(), 2);
}

#[test]
fn its_files_stay_below_the_limit() {
    let (root, teacher) = (tempfile::tempdir().unwrap(), teacher());
    let record = 8 + 4 * 10 + 8;
    for limit in [0, 100, 16 + 25 * record, 16 + 25 * record + 55] {
        let cache = SoftLabels::open(root.path(), source(&limit.to_string()), limit).unwrap();
        check(&cache, &teacher, 1);
        check(&cache, &teacher, 2);
        let size: u64 = segments(&cache).iter().map(|p| std::fs::metadata(p).unwrap().len()).sum();
        assert!(size <= limit.max(16), "{size} of {limit}");
        let found = check(&cache, &teacher, 1).found;
        assert_eq!(found, limit.saturating_sub(16) / record, "limit {limit}");
    }
}

#[test]
fn its_folder_is_named_by_all_that_an_answer_depends_on() {
    let root = tempfile::tempdir().unwrap();
    let folder = |source| SoftLabels::open(root.path(), source, PLENTY).unwrap().folder().to_path_buf();
    let here = folder(source("a"));
    assert_eq!(folder(source("a")), here);
    let others = [
        source("b"),
        Source { data_sha256: "others".into(), ..source("a") },
        Source { images: 1436, ..source("a") },
        Source { augment: Augment { crop: 2, ..AUGMENT }, ..source("a") },
        Source { augment: Augment { flip: Flip::None, ..AUGMENT }, ..source("a") },
    ];
    for other in others {
        assert_ne!(folder(other.clone()), here, "{other:?}");
    }
}

#[test]
fn methods_that_ask_their_teacher_elsewhere_refuse_it() {
    let keys = [
        ("natural", "", "has no teacher"),
        ("sat", "", "has no teacher"),
        ("trades", "beta = 6.0", "has no teacher"),
        ("mart", "beta = 6.0", "has no teacher"),
        ("ard", "alpha = 1.0\ntau = 30.0\nkl_scale = 1.0", ""),
        (
            "iad",
            "alpha = 1.0\nbeta = 0.1\ntau = 1.0\nkl_scale = 1.0\nbegin = 1\nweighting = 'paper'\nforwards = 'minimal'",
            "at points of the attack",
        ),
        (
            "iad2",
            "alpha1 = 0.5\nalpha2 = 0.2\nbeta = 0.1\ntau = 1.0\nkl_scale = 1.0\nbegin = 1",
            "at points of the attack",
        ),
        ("rslad", "alpha = 0.5\nkl_scale = 1.0", ""),
        (
            "label_slots",
            "inner = 'teacher'\nouter_adv = 'natural_teacher'\nouter_nat = 'hard'\nalpha = 0.5\nkl_scale = 1.0",
            "",
        ),
        ("adaad", "alpha = 1.0\nkl_scale = 1.0", "at points of the attack"),
        ("igdm", "alpha = 0.5\nkl_scale = 1.0\nigdm_weight = 1.0", "at points of the attack"),
    ];
    assert_eq!(keys.map(|(name, ..)| name).to_vec(), METHODS.iter().map(|m| m.name).collect::<Vec<_>>());
    for (name, keys, said) in keys {
        let method = methods::build(&format!("name = '{name}'\n{keys}").parse().unwrap()).unwrap();
        let refusal = SoftLabels::refusal(name, &method.plan());
        assert_eq!(refusal.is_none(), said.is_empty(), "{name}: {refusal:?}");
        if let Some(refusal) = refusal {
            assert!(refusal.contains(said) && refusal.ends_with("; remove --soft-labels"), "{refusal}");
        }
    }
}

#[test]
fn a_run_of_such_a_method_does_not_begin() {
    let recipe = micro(&[("method", "{ name = 'adaad', alpha = 1.0, kl_scale = 1.0 }")]);
    let (root, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut inputs = inputs(&recipe);
    inputs.soft_labels = Some(open(root.path()));
    let held = RunDir::open(dir.path(), &recipe).unwrap();
    let error = train(&recipe, &inputs, &held, &mut (), &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, Error::Mismatch(_)), "{error}");
}
