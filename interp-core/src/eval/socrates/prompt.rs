//! What a model is asked, and the number in what it says.

/// A row of the question set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// One fixed sentence about the task.
    pub instruction: String,
    /// Demographics and scenario.
    pub input: String,
    /// What the person answered, without `Response: `.
    pub answer: String,
    /// The study.
    pub study: String,
    /// The condition within the study.
    pub condition: String,
}

/// The prompt of training and of the published evaluation.
pub fn alpaca(question: &Question) -> String {
    format!("### Instruction:\n{}\n\n### Input:\n{}\n\n### Response:\n", question.instruction, question.input)
}

/// The card's form: one user message for the checkpoint's own chat template.
pub fn chat(question: &Question) -> String {
    format!("{}\n\n{}", question.instruction, question.input)
}

/// The first number of a text: a minus sign if there is one, digits, and then perhaps a point and more digits. Digits may be as many
/// as a model makes of them; a number beyond f64 is none.
pub fn number(text: &str) -> Option<f64> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let digits = |from: usize| text[from..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |n| from + n);
    let mut end = digits(start);
    if text[end..].starts_with('.') {
        end = digits(end + 1);
    }
    let value: f64 = text[start..end].parse().ok()?;
    let negative = text[..start].ends_with('-');
    value.is_finite().then_some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_is_read() {
        for (text, value) in [
            ("5", Some(5.0)),
            ("Response: 4 or 5", Some(4.0)),
            ("5.", Some(5.0)),
            ("about 3.50%", Some(3.5)),
            ("1.2.3", Some(1.2)),
            ("from 1-5", Some(1.0)),
            ("-2", Some(-2.0)),
            ("a-7", Some(-7.0)),
            (".5", Some(5.0)),
            ("none", None),
            ("", None),
        ] {
            assert_eq!(number(text), value, "{text}");
        }
        assert_eq!(number(&format!("2{}", "0".repeat(99))), Some(2e99));
        assert_eq!(number(&"9".repeat(400)), None);
    }
}
