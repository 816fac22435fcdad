//! Reasons to believe the numbers: each a claim that these files could refute.

use super::model::{Check, Column, RadiusCurve, Verdict};
use super::rows::{Placed, counts};
use rslad_attacks::result::Accuracy;

/// All checks; one whose evidence is not here says so.
pub(crate) fn checks(
    all: &[Placed<'_>],
    evals: &[&Placed<'_>],
    columns: &[Column],
    radii: &[RadiusCurve],
) -> Vec<Check> {
    let mut checks = vec![inside_the_ball(all), same_images(evals), no_warnings(all)];
    checks.extend(of_evaluations(all));
    checks.extend([
        ordered("one step is not stronger than many (FGSM against PGD)", evals, &["fgsm"], &["pgd"]),
        ordered(
            "the black box is not stronger than the white box (Square against PGD)",
            evals,
            &["square"],
            &["pgd", "cw_inf"],
        ),
        ordered(
            "no single attack is stronger than the ensemble",
            evals,
            &["fgsm", "pgd", "cw_inf", "apgd", "square"],
            &["aa", "auto_attack", "autoattack"],
        ),
        falls_with_radius(radii),
        falls_to_nothing(radii),
        survives_rounding(evals),
        one_version(all, columns),
    ]);
    checks
}

/// What a report checks itself, on its own terms.
const OURS: [&str; 2] =
    ["one step is not stronger than many", "a black box is not stronger than a white box"];

/// The checks that evaluations made of their models and of themselves, a line for each.
fn of_evaluations(all: &[Placed<'_>]) -> Vec<Check> {
    let made: Vec<_> =
        all.iter().flat_map(|p| p.eval.result.trust.iter().map(move |check| (p, check))).collect();
    let mut names: Vec<&str> = vec![];
    for (_, check) in &made {
        if !names.contains(&check.name.as_str()) && !OURS.contains(&check.name.as_str()) {
            names.push(&check.name);
        }
    }
    let line = |claim: &&str| {
        let own: Vec<_> = made.iter().filter(|(_, check)| check.name == **claim).collect();
        let broken = own.iter().filter(|(_, check)| check.outcome != "passed");
        let broken: Vec<String> = broken.map(|(p, check)| format!("{}: {}", name(p), check.seen)).collect();
        self::check(claim, own.len(), &broken, "evaluations")
    };
    names.iter().map(line).collect()
}

/// Whether what fell would fall as a picture of 8 bits, which is how pictures are kept.
fn survives_rounding(evals: &[&Placed<'_>]) -> Check {
    let counts = evals.iter().flat_map(|p| p.eval.result.columns.iter().filter_map(|c| c.eight_bit.as_ref()));
    let (fallen, still) = counts.fold((0, 0), |(fallen, still), c| (fallen + c.fallen, still + c.still));
    // A share that says that attacks live between the values of pixels: an unusual model, or radius.
    let broken = if 10 * still < 9 * fallen { vec![format!("{still} of {fallen} do")] } else { vec![] };
    let mut check =
        check("what fell stays fallen once rounded to 8 bits (9 of 10)", fallen, &broken, "fallen images");
    if fallen > 0 {
        check.detail = format!("{still} of {fallen} do");
    }
    check
}

fn check(claim: &str, evidence: usize, broken: &[String], of: &str) -> Check {
    let (outcome, detail) = match (evidence, broken.is_empty()) {
        (0, _) => (Verdict::NotRun, format!("no {of} here")),
        (n, true) => (Verdict::Holds, format!("{n} {of}")),
        (_, false) => (Verdict::Fails, broken.join("; ")),
    };
    Check { claim: claim.into(), outcome, detail }
}

fn name(p: &Placed<'_>) -> String {
    format!("{} {} ({}, seed {})", p.group(), p.label(), p.key.checkpoint.name(), p.seed)
}

fn inside_the_ball(all: &[Placed<'_>]) -> Check {
    let attacked: Vec<_> =
        all.iter().flat_map(|p| p.eval.result.columns.iter().map(move |c| (p, c))).collect();
    // The distance was rounded to f32 once; membership itself was checked when the point was found.
    let outside = attacked.iter().filter(|(p, c)| c.max_linf > p.eval.eps() * (1.0 + 1e-6) + 1e-7);
    let broken: Vec<String> =
        outside.map(|(p, c)| format!("{}: {} went {}", name(p), c.name, c.max_linf)).collect();
    check("every perturbation is within its radius", attacked.len(), &broken, "attacks")
}

fn same_images(evals: &[&Placed<'_>]) -> Check {
    let first = evals.first().map(|p| &p.eval.result.data);
    let other = evals.iter().filter(|p| {
        let data = &p.eval.result.data;
        first.is_some_and(|first| first.sha256 != data.sha256 && first.n == data.n)
    });
    let broken: Vec<String> = other.map(|p| format!("{} met others", name(p))).collect();
    check("models are compared on the same images", evals.len(), &broken, "evaluations")
}

fn no_warnings(all: &[Placed<'_>]) -> Check {
    let told =
        all.iter().flat_map(|p| p.eval.result.warnings.iter().map(move |w| format!("{}: {w}", name(p))));
    let broken: Vec<String> = told.collect();
    check(
        "no evaluation warned (NaN, gradients that vanish, strange data)",
        all.len(),
        &broken,
        "evaluations",
    )
}

/// Whether attacks of the one kind leave at least as much standing as the strongest of the other, but
/// for what chance explains on so many images.
fn ordered(claim: &str, evals: &[&Placed<'_>], weaker: &[&str], stronger: &[&str]) -> Check {
    let (mut evidence, mut broken) = (0, vec![]);
    // Of a black box the gradients are another model's: no order follows.
    for p in evals.iter().filter(|p| p.eval.result.source.is_none()) {
        let is = |kinds: &[&str], name: &str| kinds.iter().any(|kind| name.starts_with(kind));
        let lowest = |kinds: &[&str]| -> Option<Accuracy> {
            let columns = p.eval.result.columns.iter().filter(|c| is(kinds, &c.name) || is(kinds, &c.attack));
            columns.filter_map(|c| counts(p.eval, &c.name)).min_by_key(|accuracy| accuracy.correct)
        };
        let (Some(weak), Some(strong)) = (lowest(weaker), lowest(stronger)) else { continue };
        evidence += 1;
        if weak.ci95().1 < strong.share() {
            let (weak, strong) = (100.0 * weak.share(), 100.0 * strong.share());
            broken.push(format!("{}: {weak:.1} % against {strong:.1} %", name(p)));
        }
    }
    check(claim, evidence, &broken, "evaluations with both")
}

fn falls_with_radius(radii: &[RadiusCurve]) -> Check {
    let rises = |curve: &&RadiusCurve| curve.points.windows(2).any(|w| w[1].accuracy > w[0].ci95.1);
    let broken: Vec<String> = radii.iter().filter(rises).map(|c| format!("{} rises", c.label)).collect();
    check("accuracy falls as the radius grows", radii.len(), &broken, "curves")
}

fn falls_to_nothing(radii: &[RadiusCurve]) -> Check {
    let wide: Vec<_> = radii.iter().filter(|c| c.points.last().is_some_and(|last| last.eps >= 0.5)).collect();
    let stands = wide.iter().filter(|c| c.points.last().is_some_and(|last| last.accuracy > 0.02));
    let broken: Vec<String> = stands.map(|c| format!("{} still stands", c.label)).collect();
    check(
        "nothing stands at a radius of half the range or more",
        wide.len(),
        &broken,
        "curves that go so far",
    )
}

fn one_version(all: &[Placed<'_>], columns: &[Column]) -> Check {
    let mut versions: Vec<&str> = all.iter().map(|p| p.eval.result.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    let broken = if versions.len() > 1 { vec![format!("versions {}", versions.join(", "))] } else { vec![] };
    let evidence = if columns.is_empty() { 0 } else { all.len() };
    check("all evaluations are of one version of rslad", evidence, &broken, "evaluations")
}
