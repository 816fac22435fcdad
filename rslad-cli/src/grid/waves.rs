//! The cells that are left, by what they wait for.

use super::done::State;
use super::plan::Plan;
use std::collections::BTreeMap;

/// Cells that wait for the same others: one array of a scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) cells: Vec<usize>,
    /// The cells that must have ended before, none of them finished yet.
    pub(crate) after: Vec<usize>,
}

/// The cells that are not finished; those that cannot be done because something is missing are left out.
fn open(plan: &Plan<'_>) -> Vec<usize> {
    let is_open = |index: &usize| !matches!(plan.state(*index), State::Finished | State::Missing(_));
    (0..plan.cells.len()).filter(is_open).collect()
}

/// The open cells in groups, each after those that it waits for.
pub(crate) fn groups(plan: &Plan<'_>) -> Vec<Group> {
    grouped(&open(plan), |index| &plan.cells[index].needs)
}

fn grouped<'p>(open: &[usize], needs: impl Fn(usize) -> &'p [usize]) -> Vec<Group> {
    let mut groups: BTreeMap<(usize, Vec<usize>), Vec<usize>> = BTreeMap::new();
    let mut depth = BTreeMap::new();
    for &index in open {
        let after: Vec<usize> = needs(index).iter().copied().filter(|need| open.contains(need)).collect();
        let deep = after.iter().map(|need| depth[need] + 1).max().unwrap_or(0); // cells build on those above
        depth.insert(index, deep);
        groups.entry((deep, after)).or_default().push(index);
    }
    groups.into_iter().map(|((_, after), cells)| Group { cells, after }).collect()
}

/// The open cells in waves: those of one wait only for those of waves before.
pub(crate) fn waves(plan: &Plan<'_>) -> Vec<Vec<usize>> {
    let mut waves: Vec<Vec<usize>> = vec![];
    let mut wave_of = BTreeMap::new();
    for group in groups(plan) {
        let wave = group.after.iter().map(|need| wave_of[need] + 1).max().unwrap_or(0);
        wave_of.extend(group.cells.iter().map(|&index| (index, wave)));
        waves.resize(waves.len().max(wave + 1), vec![]);
        waves[wave].extend(group.cells);
    }
    waves
}

/// Indices as arrays of schedulers write them: `0-3,7`.
pub(crate) fn ranges(indices: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = vec![];
    for &index in indices {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => runs.push((index, index)),
        }
    }
    let written = runs.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    written.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_wait_for_the_same_are_one_group() {
        let needs: [&[usize]; 7] = [&[], &[0], &[0], &[1], &[2], &[], &[1, 2]];
        let group = |cells: &[usize], after: &[usize]| Group { cells: cells.into(), after: after.into() };
        let all: Vec<usize> = (0..7).collect();
        assert_eq!(
            grouped(&all, |i| needs[i]),
            [
                group(&[0, 5], &[]),
                group(&[1, 2], &[0]),
                group(&[3], &[1]),
                group(&[6], &[1, 2]),
                group(&[4], &[2])
            ]
        );
        let left = [2, 3, 4];
        assert_eq!(grouped(&left, |i| needs[i]), [group(&[2, 3], &[]), group(&[4], &[2])], "1 is finished");
    }

    #[test]
    fn indices_are_written_as_ranges() {
        for (indices, written) in
            [(&[0, 1, 2, 5][..], "0-2,5"), (&[3], "3"), (&[], ""), (&[1, 3, 4], "1,3-4")]
        {
            assert_eq!(ranges(indices), written);
        }
    }
}
