//! What a results file claims, beside what its samples say.

use serde_json::{Value, json};

/// One field that comes out otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The field, dotted from the top.
    pub field: String,
    /// What the file has there.
    pub claimed: Value,
    /// What its samples give.
    pub found: Value,
}

/// Every comparison of one file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Check {
    /// Fields compared.
    pub compared: usize,
    /// Fields whose numbers are the same to the last digit, or whose words are the same.
    pub equal: usize,
    /// Largest |claimed − found| among the numbers that count as the same.
    pub rounding: f64,
    /// Fields that differ by more than rounding.
    pub differences: Vec<Difference>,
}

/// Two numbers that differ by less than this share (of 1, or of the number where it is larger) differ by rounding: they were
/// added in another order.
pub const ROUNDING: f64 = 1e-12;

impl Check {
    /// Compares a number.
    pub fn number(&mut self, field: impl Into<String>, claimed: Option<f64>, found: Option<f64>) {
        self.compared += 1;
        match (claimed, found) {
            (Some(a), Some(b)) if a == b => self.equal += 1,
            (None, None) => self.equal += 1,
            (Some(a), Some(b)) if (a - b).abs() <= ROUNDING * a.abs().max(1.0) => {
                self.rounding = self.rounding.max((a - b).abs());
            }
            _ => {
                self.differences.push(Difference { field: field.into(), claimed: json!(claimed), found: json!(found) })
            }
        }
    }

    /// Compares anything else.
    pub fn value(&mut self, field: impl Into<String>, claimed: &Value, found: Value) {
        self.compared += 1;
        match *claimed == found {
            true => self.equal += 1,
            false => self.differences.push(Difference { field: field.into(), claimed: claimed.clone(), found }),
        }
    }

    /// Compares an object of numbers: every name that either side has.
    pub fn numbers<'a>(&mut self, field: &str, claimed: &Value, found: impl Iterator<Item = (&'a str, f64)>) {
        let mut left: Vec<&String> = claimed.as_object().map(|map| map.keys().collect()).unwrap_or_default();
        for (name, value) in found {
            left.retain(|key| *key != name);
            self.number(format!("{field}.{name}"), claimed[name].as_f64(), Some(value));
        }
        for name in left {
            self.number(format!("{field}.{name}"), claimed[name.as_str()].as_f64(), None);
        }
    }

    /// Whether nothing differs by more than rounding.
    pub fn holds(&self) -> bool {
        self.differences.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rounded_and_different_are_told_apart() {
        let mut check = Check::default();
        check.number("a", Some(1.0), Some(1.0));
        check.number("b", Some(1e98), Some(1e98 * (1.0 + 1e-15)));
        check.numbers("c", &json!({"x": 1.0, "z": 2.0}), [("x", 1.0), ("y", 3.0)].into_iter());
        check.value("d", &json!(true), json!(false));
        assert_eq!((check.compared, check.equal, check.holds()), (6, 2, false));
        assert!(check.rounding > 0.0);
        let names: Vec<&str> = check.differences.iter().map(|one| one.field.as_str()).collect();
        assert_eq!(names, ["c.y", "c.z", "d"]);
        assert_eq!(check.differences[0].claimed, Value::Null);
    }
}
