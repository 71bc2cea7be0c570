//! A straight line through points by least squares, and how much of their variance it explains.

/// `y = intercept + slope · x`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// y at x = 0.
    pub intercept: f64,
    /// Change of y per unit of x.
    pub slope: f64,
    /// Share of the variance of y that the line explains: R², 1 where y does not vary.
    pub r2: f64,
}

impl Line {
    /// The line through `(x, y)` of least squares in y; `None` unless there are two different x.
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let n = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (mean_x, mean_y) = (mean(|p| p.0), mean(|p| p.1));
        let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|(x, y)| of(x - mean_x, y - mean_y)).sum::<f64>();
        let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
        if points.is_empty() || xx == 0.0 {
            return None;
        }
        let slope = xy / xx;
        let r2 = if yy == 0.0 { 1.0 } else { xy * slope / yy };
        Some(Self { intercept: mean_y - slope * mean_x, slope, r2 })
    }

    /// y at x.
    pub fn at(&self, x: f64) -> f64 {
        self.intercept + self.slope * x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_by_hand() {
        let line = Line::fit(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]).unwrap();
        assert_eq!(line, Line { intercept: 1.0, slope: 2.0, r2: 1.0 });
        assert_eq!(line.at(10.0), 21.0);
        // Means 1 and 4/3; sums xx 2, xy 2, yy 8/3.
        let line = Line::fit(&[(0.0, 0.0), (1.0, 2.0), (2.0, 2.0)]).unwrap();
        assert!((line.slope - 1.0).abs() < 1e-15 && (line.intercept - 1.0 / 3.0).abs() < 1e-15);
        assert!((line.r2 - 0.75).abs() < 1e-15);
        assert_eq!(Line::fit(&[(0.0, 2.0), (1.0, 2.0)]).unwrap().r2, 1.0);
        assert_eq!(Line::fit(&[(1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(Line::fit(&[]), None);
    }
}
