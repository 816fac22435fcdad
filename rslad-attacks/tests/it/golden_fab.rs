//! The distances that FAB finds, as the released code found them. FAB without restarts draws nothing.

use crate::fab_steps::{Parting, parting};
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

/// The distances that are off by 1e-4 or more; few may be by much.
fn far(name: &str, ours: &[f64], theirs: &[f64]) -> Vec<usize> {
    let off: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).collect();
    assert_eq!(off.len(), theirs.len());
    let far: Vec<usize> = (0..off.len()).filter(|&i| off[i] >= 1e-4).collect();
    let mut sorted = off;
    sorted.sort_by(f64::total_cmp);
    let (median, worst) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    eprintln!("{name}: {} of {} distances are off by 1e-4, the worst by {worst:e}", far.len(), sorted.len());
    assert!(median < 2e-6, "{name}: off by {median:e} in the median");
    assert!(worst < 1e-2, "{name}: the worst is off by {worst:e}");
    far
}

fn compare(name: &str, ours: &[f64], theirs: &[f64]) {
    let far = far(name, ours, theirs);
    assert!(far.len() * 20 <= ours.len(), "{name}: {far:?} are off by 1e-4, expected 95 % within");
}

fn robust(norms: &[f64]) -> usize {
    norms.iter().filter(|norm| **norm > EPS).count()
}

pub(crate) fn fab_t() -> FabT {
    toml::from_str(&format!("iterations = 100\ntargets = 9\n{KEYS}")).unwrap()
}

/// The distances of every image in double precision, along the boundary to the class of this rank.
pub(crate) fn truth(r: &Record, rank: usize) -> Vec<f64> {
    let n = r.problem(EPS).ids().len();
    match r.double.has(&format!("fab/rank{rank}_norm")) {
        true => flat(&r.double.f64(&format!("fab/rank{rank}_norm"))),
        false => flat(&r.file.f64("fab/norm64_per_target"))[(rank - 2) * n..][..n].to_vec(),
    }
}

fn targeted_matches(r: &Record, ranks: &[usize]) {
    let (p, attack) = (r.problem(EPS), fab_t());
    let n = p.ids().len();
    let ours: Vec<f64> =
        ranks.iter().flat_map(|&rank| norms(r, &p, attack.nearest(rank, &p).unwrap())).collect();
    let theirs: Vec<f64> = ranks.iter().flat_map(|&rank| truth(r, rank)).collect();
    compare("targeted", &ours, &theirs);
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
    compare("untargeted", &ours, &theirs);
    assert!(robust(&ours).abs_diff(robust(&theirs)) <= 1);
}

#[test]
fn targeted_distances_match_the_released_code() {
    targeted_matches(&tiny(), &[2, 3, 4, 5, 6, 7, 8, 9, 10]);
    targeted_matches(&resnet(), &[2]);
}

/// Ranks 6 and 10 have no limit: 81 to 100 % of their distances are within 1e-4, as rounding falls. But each that is not
/// comes from a walk that goes beside that of double precision, within 1e-6, until a derivative within rounding of zero has
/// another sign.
#[test]
fn far_distances_on_the_resnet_are_of_walks_that_rounding_parts() {
    let (r, attack) = (resnet(), fab_t());
    let (p, twin) = (r.problem(EPS), r.twin());
    for rank in [2, 6, 10] {
        let ours = norms(&r, &p, attack.nearest(rank, &p).unwrap());
        for image in far(&format!("rank {rank}"), &ours, &truth(&r, rank)) {
            let parting = parting(&r, &twin, rank, image);
            let Parting { iteration, points, next, flip } =
                parting.expect("a far distance is of a walk that parts");
            eprintln!(
                "rank {rank}, image {image}: points {points:.1e} apart part by {next:.1e} in iteration {iteration}; a \
                 derivative of {flip:.1e} of the largest has another sign in f32"
            );
            assert!(
                points < 1e-6,
                "rank {rank}, image {image}: the walks were {points:e} apart before they parted"
            );
        }
    }
}

#[test]
fn untargeted_distances_match_the_released_code() {
    untargeted_matches(&tiny());
    untargeted_matches(&resnet());
}
