//! Scores of previous-token, duplicate-token and induction heads, from one pass per prompt.
//!
//! Each role names, for every position that attends (dest), the earlier positions (src) that a head of the role looks at:
//!
//! | role | src |
//! |---|---|
//! | previous token | dest − 1 |
//! | duplicate token | every src < dest with the same token |
//! | induction | every src < dest whose previous token is dest's token: what followed the token before |
//!
//! These are the detection patterns of TransformerLens's head detector. A head's score is the attention on them,
//! summed over all destinations and divided by all its attention, which is 1 per destination (the error measure `mul` there). A
//! prompt has destinations where no src qualifies, so a perfect head scores less than 1; [`RoleScores::where_possible`] divides by
//! the destinations that have one, which on repeated random tokens is the mean over the induction stripe.

use std::fmt;

use tch::{Kind, Tensor};

use crate::decoder::Decoder;
use crate::device::upload;
use crate::hooks::Hooks;
use crate::site::{HookPoint, Site};

/// What a head may do with positions and repeated tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Looks one position back.
    PreviousToken,
    /// Looks at earlier places of the same token.
    DuplicateToken,
    /// Looks at what followed earlier places of the same token.
    Induction,
}

impl Role {
    /// Every role, in the order in which files list them.
    pub const ALL: [Role; 3] = [Role::PreviousToken, Role::DuplicateToken, Role::Induction];

    /// The word in files.
    pub fn name(self) -> &'static str {
        match self {
            Role::PreviousToken => "previous_token",
            Role::DuplicateToken => "duplicate_token",
            Role::Induction => "induction",
        }
    }

    /// Whether a head of this role looks from `dest` at `src` in a prompt of `tokens`.
    pub fn looks(self, tokens: &[i64], dest: usize, src: usize) -> bool {
        src <= dest
            && match self {
                Role::PreviousToken => src + 1 == dest,
                Role::DuplicateToken => src < dest && tokens[src] == tokens[dest],
                // The position before src is then earlier than dest, as the role asks.
                Role::Induction => src > 0 && tokens[src - 1] == tokens[dest],
            }
    }

    /// The same as a tensor `[dest, src]` of zeros and ones, for destinations from `first` on.
    fn mask(self, tokens: &Tensor, first: i64, n_dest: i64) -> Tensor {
        let n_src = first + n_dest;
        let index = |from: i64, to: i64| Tensor::arange_start(from, to, (Kind::Int64, tokens.device()));
        let dest = index(first, n_src).unsqueeze(1);
        let src = index(0, n_src).unsqueeze(0);
        let own = tokens.narrow(0, first, n_dest).unsqueeze(1);
        let all = tokens.narrow(0, 0, n_src).unsqueeze(0);
        match self {
            Role::PreviousToken => src.eq_tensor(&(dest - 1)),
            Role::DuplicateToken => all.eq_tensor(&own).logical_and(&src.lt_tensor(&dest)),
            Role::Induction => {
                let before = all.roll([1i64], [1i64]);
                before.eq_tensor(&own).logical_and(&src.le_tensor(&dest)).logical_and(&src.gt(0))
            }
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Scores of all heads and roles: means over prompts. Takes one number per layer, head and role, whatever the prompts' length.
#[derive(Debug, Clone)]
pub struct RoleScores {
    n_heads: usize,
    /// `[role][layer * head]`, summed over prompts.
    scores: Vec<Vec<f64>>,
    where_possible: Vec<Vec<f64>>,
    /// Prompts, and those in which a role is possible at all.
    n_prompts: usize,
    n_possible: [usize; Role::ALL.len()],
}

impl RoleScores {
    /// No prompt yet, for a model of `n_layers` with `n_heads` query heads each.
    pub fn new(n_layers: usize, n_heads: usize) -> Self {
        let empty = vec![vec![0.0; n_layers * n_heads]; Role::ALL.len()];
        Self { n_heads, scores: empty.clone(), where_possible: empty, n_prompts: 0, n_possible: Default::default() }
    }

    /// Runs a prompt once and adds what its heads look at.
    pub fn add(&mut self, decoder: &Decoder, tokens: &[i64]) {
        let _no_grad = tch::no_grad_guard();
        let mut reducer = Reducer {
            tokens: upload(tokens, decoder.devices().first()),
            sums: (0..decoder.config().n_layers).map(|_| None).collect(),
        };
        let _ = decoder.forward(decoder.embed(tokens), 0..tokens.len(), &mut reducer);
        let n = tokens.len() as f64;
        let possible = Role::ALL.map(|role| destinations(role, tokens));
        for (layer, sums) in reducer.sums.iter().enumerate() {
            let sums = sums.as_ref().expect("every layer has a pattern");
            let sums: Vec<Vec<f64>> = Vec::try_from(sums).expect("a matrix of f64");
            for (role, sums) in sums.iter().enumerate() {
                for (head, sum) in sums.iter().enumerate() {
                    let cell = layer * self.n_heads + head;
                    self.scores[role][cell] += sum / n;
                    if possible[role] > 0 {
                        self.where_possible[role][cell] += sum / possible[role] as f64;
                    }
                }
            }
        }
        self.n_prompts += 1;
        self.n_possible.iter_mut().zip(possible).for_each(|(n, possible)| *n += usize::from(possible > 0));
    }

    /// Number of prompts.
    pub fn n_prompts(&self) -> usize {
        self.n_prompts
    }

    /// Attention on the role's positions as a share of all attention, `[layer * head]`, mean over prompts. NaN without prompts.
    pub fn scores(&self, role: Role) -> Vec<f64> {
        mean(&self.scores[role as usize], self.n_prompts)
    }

    /// Attention on the role's positions, `[layer * head]`, mean over the destinations that have any, then over the prompts that have such
    /// destinations. NaN where no prompt has.
    pub fn where_possible(&self, role: Role) -> Vec<f64> {
        mean(&self.where_possible[role as usize], self.n_possible[role as usize])
    }
}

fn mean(sums: &[f64], n: usize) -> Vec<f64> {
    sums.iter().map(|sum| sum / n as f64).collect()
}

/// Destinations at which the role has a position to look at.
fn destinations(role: Role, tokens: &[i64]) -> usize {
    match role {
        Role::PreviousToken => tokens.len() - 1,
        _ => {
            // What followed an earlier place of the token is at most the destination itself, so that induction is possible
            // wherever a duplicate is.
            let mut seen = std::collections::HashSet::new();
            tokens.iter().filter(|token| !seen.insert(**token)).count()
        }
    }
}

/// Sums a pattern over the positions of every role, chunk by chunk.
struct Reducer {
    tokens: Tensor,
    /// Per layer `[role, head]`, f64.
    sums: Vec<Option<Tensor>>,
}

impl Hooks for Reducer {
    fn wants(&self, at: HookPoint) -> bool {
        at.site == Site::Pattern
    }

    fn visit(&mut self, at: HookPoint, first_pos: usize, act: Tensor) -> Tensor {
        let pattern = act.get(0);
        let (n_dest, n_src) = (pattern.size()[1], pattern.size()[2]);
        // Chunks cover all source positions; those beyond a chunk's last destination hold no attention.
        let seen = pattern.narrow(2, 0, n_src.min(first_pos as i64 + n_dest));
        let tokens = self.tokens.to_device(pattern.device());
        let of_role = |role: Role| {
            let mask = role.mask(&tokens, first_pos as i64, n_dest).to_kind(pattern.kind());
            (&seen * mask).sum_dim_intlist([1i64, 2].as_slice(), false, Kind::Double)
        };
        let sums = Tensor::stack(&Role::ALL.map(of_role), 0);
        let slot = &mut self.sums[at.layer];
        *slot = Some(match slot.take() {
            Some(earlier) => earlier + sums,
            None => sums,
        });
        act
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_what_the_roles_say() {
        let tokens = [5, 7, 5, 5, 9, 7, 5];
        let uploaded = upload(&tokens, tch::Device::Cpu);
        for role in Role::ALL {
            for (first, n) in [(0, tokens.len()), (2, 3), (5, 1)] {
                let mask: Vec<Vec<bool>> = Vec::try_from(role.mask(&uploaded, first as i64, n as i64)).unwrap();
                for (dest, row) in (first..first + n).zip(&mask) {
                    let expected: Vec<bool> = (0..first + n).map(|src| role.looks(&tokens, dest, src)).collect();
                    assert_eq!(*row, expected, "{role} at {dest}");
                }
            }
            let possible = (0..tokens.len()).filter(|&dest| (0..=dest).any(|src| role.looks(&tokens, dest, src)));
            assert_eq!(destinations(role, &tokens), possible.count(), "{role}");
        }
        // By hand: the second 7 (at 5) looks for duplicates at 1, and for what followed 7 at 2.
        let at = |role: Role| (0..6).filter(|&src| role.looks(&tokens, 5, src)).collect::<Vec<_>>();
        assert_eq!(Role::ALL.map(at), [vec![4], vec![1], vec![2]]);
        // The token followed itself at 3: the place to look at is the destination.
        assert!(Role::Induction.looks(&tokens, 3, 3) && Role::Induction.looks(&tokens, 3, 1));
    }
}
