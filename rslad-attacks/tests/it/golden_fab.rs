//! The distances that FAB finds, as the released code found them. FAB without restarts draws nothing.

use crate::golden_attacks::{EPS, Record, resnet, tiny};
use crate::goldens::flat;
use rslad_attacks::attacks::{Fab, FabT};
use rslad_attacks::{Problem, Search};

const KEYS: &str = "restarts = 1\nalpha_max = 0.1\neta = 1.05\nbeta = 0.9";

/// How far the points found are from their images, in the order of the examples.
fn norms(r: &Record, p: &Problem, mut search: Box<dyn Search + '_>) -> Vec<f64> {
    let mut found = Vec::new();
    while search.lanes() > 0 {
        found.extend(search.advance(&r.f).unwrap());
    }
    found.sort_by_key(|done| done.id);
    let distance = |(row, done): (usize, &rslad_attacks::Finished)| {
        let (x, x_nat) = (flat(&done.x_adv), flat(&p.ball().x_nat().get(row).unwrap()));
        x.iter().zip(&x_nat).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    found.iter().enumerate().map(distance).collect()
}

/// `share` of the distances must agree.
fn compare(name: &str, share: f64, ours: &[f64], theirs: &[f64]) {
    let mut off: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).collect();
    assert_eq!(off.len(), theirs.len());
    off.sort_by(f64::total_cmp);
    let near = off.iter().filter(|off| **off < 1e-4).count() as f64 / off.len() as f64;
    let (median, worst) = (off[off.len() / 2], off[off.len() - 1]);
    eprintln!("{name}: {near} of the distances are within 1e-4, the worst is off by {worst:e}");
    assert!(median < 2e-6, "{name}: off by {median:e} in the median");
    assert!(near >= share, "{name}: {near} of the distances are within 1e-4, expected {share}");
    assert!(worst < 1e-2, "{name}: the worst is off by {worst:e}");
}

fn robust(norms: &[f64]) -> usize {
    norms.iter().filter(|norm| **norm > EPS).count()
}

fn targeted_matches(r: &Record, ranks: &[usize], share: f64) {
    let p = r.problem(EPS);
    let attack: FabT = toml::from_str(&format!("iterations = 100\ntargets = 9\n{KEYS}")).unwrap();
    let n = p.ids().len();
    let truth = |rank: usize| match r.double.has(&format!("fab/rank{rank}_norm")) {
        true => flat(&r.double.f64(&format!("fab/rank{rank}_norm"))),
        false => flat(&r.file.f64("fab/norm64_per_target"))[(rank - 2) * n..][..n].to_vec(),
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for &rank in ranks {
        ours.extend(norms(r, &p, attack.nearest(rank, &p).unwrap()));
        theirs.extend(truth(rank));
    }
    compare("targeted", share, &ours, &theirs);
    let nearest = |norms: &[f64]| -> Vec<f64> {
        (0..n).map(|i| norms.iter().skip(i).step_by(n).copied().fold(f64::INFINITY, f64::min)).collect()
    };
    let (ours, theirs) = (robust(&nearest(&ours)), robust(&nearest(&theirs)));
    assert!(ours.abs_diff(theirs) <= 1, "{ours} stand, expected {theirs}");
}

fn untargeted_matches(r: &Record) {
    let p = r.problem(EPS);
    let attack: Fab = toml::from_str(&format!("iterations = 30\n{KEYS}")).unwrap();
    let (ours, theirs) =
        (norms(r, &p, attack.nearest(&p).unwrap()), flat(&r.double.f64("fab/untargeted30_norm")));
    compare("untargeted", 0.95, &ours, &theirs);
    assert!(robust(&ours).abs_diff(robust(&theirs)) <= 1);
}

#[test]
fn targeted_distances_match_the_released_code() {
    targeted_matches(&tiny(), &[2, 3, 4, 5, 6, 7, 8, 9, 10], 0.95);
    targeted_matches(&resnet(), &[2], 0.95);
    // Far targets follow rounding further. Of these 96 distances, with rank 2, PyTorch in f32 found 92 to 1e-4; ours are 89
    // to 92, and 87 to 91 once every weight has moved by its last bit, in whichever order sums are taken. Double
    // precision itself keeps 94 to 96 when weights move by 1e-7.
    targeted_matches(&resnet(), &[6, 10], 0.85);
}

#[test]
fn untargeted_distances_match_the_released_code() {
    untargeted_matches(&tiny());
    untargeted_matches(&resnet());
}
