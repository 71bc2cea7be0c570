//! The max-statistic test against numbers found by hand, and how often it is wrong.

use rand_distr::{Distribution as _, StandardNormal};

use super::*;

fn alone(n: usize) -> Clusters {
    Clusters::new(&vec![None::<&str>; n])
}

fn rows<T>(values: &[Vec<T>]) -> Vec<&[T]> {
    values.iter().map(Vec::as_slice).collect()
}

/// SPEC 1.6: five clusters, three heads.
fn golden() -> Vec<Vec<f64>> {
    [[0.9, 0.1, -0.2], [1.1, -0.3, 0.4], [0.8, 0.2, 0.1], [1.3, 0.0, -0.1], [0.7, -0.1, 0.3]].map(Vec::from).to_vec()
}

#[test]
fn the_golden_vector() {
    let values = golden();
    let test = max_statistic(&rows(&values), &alone(5), &Permutation::default()).unwrap();
    assert_eq!((test.exact, test.permutation.n), (true, 32));
    assert_eq!(test.p_fwer, [0.03125, 1.0, 0.65625]);
    assert!((test.tau.unwrap() - 0.658).abs() < 1e-12, "{:?}", test.tau);
    assert_eq!((test.significant.as_deref(), test.count()), (Some(&[true, false, false][..]), Some((1, 3))));

    // The five largest of the grid under flipped signs.
    let means = Means::new(&rows(&values), &alone(5));
    let permutation = Permutation::default();
    let signs = permutation.signs(5);
    let mut largest = means.round(&signs, 5, &permutation, &[9.0; 3]).largest;
    largest.sort_unstable_by(f64::total_cmp);
    for (found, by_hand) in largest[27..].iter().zip([0.52, 0.60, 0.64, 0.68, 0.96]) {
        assert!((found - by_hand).abs() < 1e-12, "{largest:?}");
    }

    // Two-sided, every size comes twice; -0.96 is as far out as 0.96.
    let mut values = values;
    values.iter_mut().for_each(|row| row[0] = -row[0]);
    let one = max_statistic(&rows(&values), &alone(5), &Permutation::default()).unwrap();
    assert_eq!((one.p_fwer[0], one.significant.unwrap()), (1.0, vec![false; 3]));
    let two = Permutation { two_sided: true, alpha: 0.1, ..Permutation::default() };
    let both = max_statistic(&rows(&values), &alone(5), &two).unwrap();
    assert_eq!((both.p_fwer[0], both.significant.unwrap()), (2.0 / 32.0, vec![true, false, false]));
}

#[test]
fn each_cell_alone_has_its_own_p_and_rate() {
    let values = golden();
    let test = max_statistic(&rows(&values), &alone(5), &Permutation::default()).unwrap();
    // Alone: 1 of 32; the second's sum of -0.1 is reached by the half that is positive and by as small negative ones.
    let reached = |cell: usize| {
        let tenths: Vec<i32> = values.iter().map(|row| (row[cell] * 10.0).round() as i32).collect();
        let sum = |bits: u32| (0..5).map(|c| if bits >> c & 1 == 1 { -tenths[c] } else { tenths[c] }).sum::<i32>();
        (0..32).filter(|&bits| sum(bits) >= sum(0)).count() as f64 / 32.0
    };
    let by_hand = false_discovery(&[reached(0), reached(1), reached(2)]);
    assert_eq!(reached(0), 1.0 / 32.0);
    assert_eq!(test.q_fdr, by_hand);
}

#[test]
fn clusters_are_averaged_before_signs_are_drawn() {
    // Three trials of the first cluster and one of the second: cluster means 1 and 2, not sums 3 and 2.
    let values = [1.0, 0.0, 2.0, 2.0].map(|x| vec![x]).to_vec();
    let labels = [Some("a"), Some("a"), Some("a"), Some("b")];
    let clusters = Clusters::new(&labels);
    let means = Means::new(&rows(&values), &clusters);
    assert_eq!((means.strips[0][0][0], means.strips[0][1][0]), (1.0, 2.0));
    // All of + +, + -, - +, - - : 1.5, -0.5, 0.5, -1.5.
    let test = max_statistic(&rows(&values), &clusters, &Permutation { alpha: 0.4, ..Permutation::default() }).unwrap();
    assert_eq!((test.p_fwer[0], test.permutation.n), (0.25, 4));
    assert!((test.tau.unwrap() - 0.3).abs() < 1e-12, "{:?}", test.tau);
}

#[test]
fn cells_without_a_number_do_not_count_and_too_few_clusters_say_so() {
    let mut values: Vec<Vec<f32>> = (0..8).map(|t| vec![1.0, f32::NAN, 0.1 * t as f32]).collect();
    let test = max_statistic(&rows(&values), &alone(8), &Permutation::default()).unwrap();
    assert!(test.p_fwer[1].is_nan() && test.q_fdr[1].is_nan() && !test.is_insignificant(1));
    assert_eq!((test.p_fwer[0], test.count()), (1.0 / 256.0, Some((1, 2))));
    // A measured cell beside a hole is tested as if the hole were not there.
    let narrow: Vec<Vec<f32>> = values.iter().map(|row| vec![row[0], row[2]]).collect();
    let again = max_statistic(&rows(&narrow), &alone(8), &Permutation::default()).unwrap();
    assert_eq!((again.p_fwer[1], again.tau), (test.p_fwer[2], test.tau));

    let four = max_statistic(&rows(&values[..4]), &alone(4), &Permutation::default()).unwrap();
    assert_eq!((four.p_fwer[0], four.tau, four.significant), (1.0 / 16.0, None, None));
    assert_eq!(four.note.unwrap(), "4 clusters: the least p is 0.062, above alpha 0.05");
    let clusters = Clusters::new(&[Some("a"); 8]);
    let one = max_statistic(&rows(&values), &clusters, &Permutation::default()).unwrap();
    assert!(one.p_fwer.iter().all(|p| p.is_nan()) && one.tau.is_none() && one.count().is_none());
    assert_eq!(one.note.unwrap(), "all trials are one cluster: signs cannot be flipped");
    values.iter_mut().for_each(|row| row.fill(f32::NAN));
    let none = max_statistic(&rows(&values), &alone(8), &Permutation::default()).unwrap();
    assert_eq!(none.note.unwrap(), "no cell has a number in every trial");

    let refused = |permutation| max_statistic(&rows(&values), &alone(8), &permutation).unwrap_err().to_string();
    let alpha = refused(Permutation { alpha: 1.0, ..Permutation::default() });
    assert_eq!(alpha, "alpha 1: must lie between 0 and 1, such as 0.05");
    let n = refused(Permutation { n: 0, ..Permutation::default() });
    assert_eq!(n, "permutations 0: a test needs at least one");
}

#[test]
fn random_signs_repeat_with_their_seed_and_agree_with_a_naive_count() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let values: Vec<Vec<f64>> =
        (0..40).map(|_| (0..37).map(|cell| 0.02 * f64::from(cell) + normal(&mut rng)).collect()).collect();
    let permutation = Permutation { n: 300, seed: 9, ..Permutation::default() };
    let test = max_statistic(&rows(&values), &alone(40), &permutation).unwrap();
    assert_eq!(test, max_statistic(&rows(&values), &alone(40), &permutation).unwrap());
    let other = max_statistic(&rows(&values), &alone(40), &Permutation { seed: 10, ..permutation }).unwrap();
    assert_ne!(test.p_fwer, other.p_fwer);
    for two_sided in [false, true] {
        let permutation = Permutation { two_sided, ..permutation };
        let test = max_statistic(&rows(&values), &alone(40), &permutation).unwrap();
        let side = |x: f64| if two_sided { x.abs() } else { x };
        let mean = |signs: &[f64], cell: usize| {
            side(values.iter().zip(signs).map(|(row, sign)| sign * row[cell]).sum::<f64>() / 40.0)
        };
        let mut largest: Vec<f64> = permutation
            .signs(40)
            .chunks(40)
            .map(|signs| (0..37).map(|cell| mean(signs, cell)).fold(f64::NEG_INFINITY, f64::max))
            .collect();
        largest.sort_unstable_by(f64::total_cmp);
        let tau = quantile(&largest, 0.95);
        assert!((test.tau.unwrap() - tau).abs() < 1e-12);
        for cell in 0..37 {
            let m = mean(&[1.0; 40], cell);
            let hits = largest.iter().filter(|largest| **largest >= m).count();
            assert_eq!(test.p_fwer[cell], (1 + hits) as f64 / 301.0, "{cell}");
            assert_eq!(test.significant.as_ref().unwrap()[cell], m > tau, "{cell}");
        }
        let (found, _) = test.count().unwrap();
        assert!((1..30).contains(&found), "{found} of 37 tell nothing");
    }
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

#[test]
fn a_48_by_40_grid_of_200_trials_is_tested_in_seconds() {
    let value = |t: usize, i: usize| ((t * 37 + i * 11) % 641) as f32 - 320.0;
    let values: Vec<Vec<f32>> = (0..200).map(|t| (0..1920).map(|i| value(t, i)).collect()).collect();
    let pairs: Vec<Option<String>> = (0..200).map(|t| Some((t / 2).to_string())).collect();
    for clusters in [Clusters::new(&pairs), alone(200)] {
        let start = std::time::Instant::now();
        max_statistic(&rows(&values), &clusters, &Permutation::default()).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        // Builds without optimisation are not what is promised; they only must not hang.
        let limit = if cfg!(debug_assertions) { 120.0 } else { 5.0 };
        assert!(seconds < limit, "{} clusters: {seconds} s", clusters.len());
    }
}
