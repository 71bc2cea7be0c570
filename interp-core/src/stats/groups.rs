//! Weighted sums of means over groups of trials (a gap between two groups, a mean of two shares), with intervals over clusters
//! that may reach into several groups. Plain slices.

use super::{Bootstrap, Clusters, Draws, quantile};
use crate::error::{Error, Result};

/// Σ weight · mean of the group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupSum {
    /// The sum, in the unit of the values; `None` where a group has no trial.
    pub value: Option<f64>,
    /// Percentile interval over resampled clusters. `None` for one cluster, and where half of the resamples lose a whole group.
    pub ci: Option<[f64; 2]>,
}

/// Trial t has `values[t]` and belongs to group `groups[t]`, which counts with `weights[groups[t]]`. All groups are resampled
/// together, by cluster; a resample in which a group has no trial is left out.
pub fn group_sum(
    values: &[f64],
    groups: &[usize],
    weights: &[f64],
    clusters: &Clusters,
    bootstrap: &Bootstrap,
) -> Result<GroupSum> {
    bootstrap.check()?;
    if values.len() != groups.len() || values.len() != clusters.of_trial.len() {
        let problem = "groups or cluster labels do not match in number".into();
        return Err(Error::Statistics { what: "trials", value: values.len().to_string(), problem });
    }
    // Sum and count of every group in every cluster: `[cluster][group]`.
    let mut parts = vec![vec![(0.0, 0.0); weights.len()]; clusters.n];
    for ((value, &group), &cluster) in values.iter().zip(groups).zip(&clusters.of_trial) {
        let part = &mut parts[cluster][group];
        *part = (part.0 + value, part.1 + 1.0);
    }
    let sum = |drawn: &mut dyn Iterator<Item = (usize, f64)>| {
        let mut totals = vec![(0.0, 0.0); weights.len()];
        for (cluster, times) in drawn {
            for (total, part) in totals.iter_mut().zip(&parts[cluster]) {
                *total = (total.0 + times * part.0, total.1 + times * part.1);
            }
        }
        let all = totals.iter().all(|(_, n)| *n > 0.0);
        all.then(|| totals.iter().zip(weights).map(|((sum, n), weight)| weight * sum / n).sum::<f64>())
    };
    let value = sum(&mut (0..clusters.n).map(|cluster| (cluster, 1.0)));
    let draws = Draws::new(clusters, bootstrap);
    let resample = |drawn: &Vec<(u32, f64)>| sum(&mut drawn.iter().map(|&(cluster, times)| (cluster as usize, times)));
    let mut resampled: Vec<f64> = match value {
        Some(_) => draws.counts.iter().filter_map(resample).collect(),
        None => Vec::new(),
    };
    resampled.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - bootstrap.level) / 2.0;
    let enough = !resampled.is_empty() && 2 * resampled.len() > bootstrap.resamples;
    let ci = enough.then(|| [quantile(&resampled, tail), quantile(&resampled, 1.0 - tail)]);
    Ok(GroupSum { value, ci })
}

#[cfg(test)]
mod tests {
    use super::super::summarize;
    use super::*;

    #[test]
    fn a_gap_by_hand() {
        // Clusters a: 1, 1 | 0; b: 0 | 0. Group means 2/3 and 0. Resamples: aa 1 - 0, ab and ba 2/3 - 0, bb 0 - 0.
        let clusters = Clusters::new(&["a", "a", "a", "b", "b"].map(Some));
        let (values, groups) = ([1.0, 1.0, 0.0, 0.0, 0.0], [0, 0, 1, 0, 1]);
        let bootstrap = Bootstrap { resamples: 1000, ..Bootstrap::default() };
        let found = group_sum(&values, &groups, &[1.0, -1.0], &clusters, &bootstrap).unwrap();
        assert_eq!((found.value, found.ci), (Some(2.0 / 3.0), Some([0.0, 1.0])));
        let narrow = Bootstrap { level: 0.1, ..bootstrap };
        let middle = group_sum(&values, &groups, &[1.0, -1.0], &clusters, &narrow).unwrap();
        assert_eq!(middle.ci, Some([2.0 / 3.0; 2]), "every other resample is one of each");
    }

    #[test]
    fn one_group_is_a_mean() {
        let values: Vec<f64> = (0..30).map(|i| f64::from(i * i % 7)).collect();
        let labels: Vec<Option<String>> = (0..30).map(|i| Some((i % 9).to_string())).collect();
        let clusters = Clusters::new(&labels);
        let rows: Vec<&[f64]> = values.chunks(1).collect();
        let cell = summarize(&rows, &clusters, &Bootstrap::default()).unwrap()[0];
        let found = group_sum(&values, &[0; 30], &[1.0], &clusters, &Bootstrap::default()).unwrap();
        assert_eq!((found.value, found.ci), (Some(cell.mean), cell.ci));
    }

    #[test]
    fn a_group_that_is_mostly_away_has_no_interval() {
        let labels: Vec<Option<String>> = (0..3).map(|i| Some(i.to_string())).collect();
        let clusters = Clusters::new(&labels);
        let of =
            |groups: &[usize]| group_sum(&[1.0; 3], groups, &[1.0, 1.0], &clusters, &Bootstrap::default()).unwrap();
        // A single cluster of three is drawn in 1 - (2/3)^3 = 70 % of resamples.
        assert!(of(&[0, 0, 1]).ci.is_some());
        assert_eq!(of(&[0, 0, 0]), GroupSum { value: None, ci: None });
        let alone = Clusters::new(&[Some("a"); 3]);
        let one = group_sum(&[1.0; 3], &[0, 0, 1], &[1.0, 1.0], &alone, &Bootstrap::default()).unwrap();
        assert_eq!(one, GroupSum { value: Some(2.0), ci: None });
        assert!(group_sum(&[1.0], &[0, 0], &[1.0], &alone, &Bootstrap::default()).is_err());
    }
}
