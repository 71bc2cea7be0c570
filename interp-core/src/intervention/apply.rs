//! Bound edits at one hook point: grows the rows, copies, writes.

use tch::{Device, Kind, Tensor};

use super::bind::Edits;
use crate::hooks::{Hooks, grow, rows};
use crate::site::HookPoint;

/// What is written at places. Value tensors are `[place, width]`.
#[derive(Debug)]
pub(super) enum Op {
    Zero,
    Set(Tensor),
    Add(Tensor),
    Scale(f64),
    Knockout(Vec<i64>),
}

/// All edits of a pass at one hook point. Edits that different rows make at the same turn (a row's n-th edit here) are
/// written together when they are of one kind.
#[derive(Debug)]
pub(super) struct Point {
    at: HookPoint,
    window: Option<usize>,
    rows_after: i64,
    turns: Vec<Turn>,
    pub(super) hit: usize,
}

#[derive(Debug, Default)]
struct Turn {
    pending: Vec<(i64, i64, i64)>,
    groups: Vec<Group>,
}

/// Places `(row, pos, head)` and what is written there.
#[derive(Debug)]
struct Group {
    places: Vec<(i64, i64, i64)>,
    op: Op,
    /// Values of several rows, joined once when the point is closed.
    more: Vec<Tensor>,
}

impl Point {
    pub(super) fn new(at: HookPoint, window: Option<usize>) -> Self {
        Self { at, window, rows_after: 0, turns: Vec::new(), hit: 0 }
    }

    /// Places of the next operation of a turn.
    pub(super) fn push(&mut self, turn: usize, places: impl Iterator<Item = (i64, i64, i64)>) {
        if self.turns.len() <= turn {
            self.turns.resize_with(turn + 1, Turn::default);
        }
        self.turns[turn].pending.extend(places);
    }

    /// The operation on the places pushed before it.
    pub(super) fn push_op(&mut self, turn: usize, op: Op) {
        let turn = &mut self.turns[turn];
        let places = std::mem::take(&mut turn.pending);
        for group in &mut turn.groups {
            let joined = match (&group.op, &op) {
                (Op::Zero, Op::Zero) => true,
                (Op::Scale(a), Op::Scale(b)) => a == b,
                (Op::Knockout(a), Op::Knockout(b)) => a == b,
                (Op::Set(_), Op::Set(values)) | (Op::Add(_), Op::Add(values)) => {
                    group.more.push(values.shallow_clone());
                    true
                }
                _ => false,
            };
            if joined {
                group.places.extend(places);
                return;
            }
        }
        turn.groups.push(Group { places, op, more: Vec::new() });
    }

    pub(super) fn max_row(&self) -> i64 {
        self.groups().flat_map(|group| &group.places).map(|place| place.0).max().unwrap_or(0)
    }

    pub(super) fn bound(&self) -> usize {
        self.groups().map(|group| group.places.len()).sum()
    }

    pub(super) fn close(&mut self, rows_after: i64) {
        self.rows_after = rows_after;
        for group in self.turns.iter_mut().flat_map(|turn| &mut turn.groups) {
            let more = std::mem::take(&mut group.more);
            if let (false, Op::Set(values) | Op::Add(values)) = (more.is_empty(), &mut group.op) {
                let all: Vec<&Tensor> = std::iter::once(&*values).chain(&more).collect();
                *values = Tensor::cat(&all, 0);
            }
        }
    }

    fn groups(&self) -> impl Iterator<Item = &Group> {
        self.turns.iter().flat_map(|turn| &turn.groups)
    }

    fn apply(&mut self, first_pos: usize, act: Tensor) -> Tensor {
        let mut act = if rows(&act) < self.rows_after { grow(act, self.rows_after) } else { act.copy() };
        let covered = first_pos as i64..first_pos as i64 + act.size()[if self.at.site.is_attention() { 2 } else { 1 }];
        let mut hit = 0;
        for group in self.turns.iter().flat_map(|turn| &turn.groups) {
            let inside: Vec<i64> =
                (0..group.places.len()).filter(|&i| covered.contains(&group.places[i].1)).map(|i| i as i64).collect();
            if !inside.is_empty() {
                self.write(group, &inside, first_pos as i64, &mut act);
                hit += inside.len();
            }
        }
        self.hit += hit;
        act
    }

    /// Writes one group at those of its places that `act` covers. `act` is this pass's own copy.
    fn write(&self, group: &Group, inside: &[i64], first_pos: i64, act: &mut Tensor) {
        let device = act.device();
        let column = |f: &dyn Fn(&(i64, i64, i64)) -> i64| {
            let column: Vec<i64> = inside.iter().map(|&i| f(&group.places[i as usize])).collect();
            Some(Tensor::from_slice(&column).to_device(device))
        };
        let (row, pos, head) = (column(&|p| p.0), column(&|p| p.1 - first_pos), column(&|p| p.2));
        let index = match (self.at.site.is_attention(), self.at.site.head_axis()) {
            (true, _) => vec![row, head, pos],
            (false, Some(_)) => vec![row, pos, head],
            (false, None) => vec![row, pos],
        };
        let pick = |values: &Tensor| match inside.len() == group.places.len() {
            true => values.to_kind(act.kind()),
            false => values.index_select(0, &Tensor::from_slice(inside).to_device(device)).to_kind(act.kind()),
        };
        let old = act.index(&index);
        let new = match &group.op {
            Op::Zero => old.zeros_like(),
            Op::Set(values) => pick(values),
            Op::Add(values) => &old + pick(values),
            Op::Scale(factor) => &old * *factor,
            Op::Knockout(keys) => {
                let keys = Tensor::from_slice(keys).to_device(device);
                old.index_fill(1, &keys, f64::NEG_INFINITY)
            }
        };
        let new = if self.at.site.is_attention() {
            let dest = column(&|p| p.1).expect("a column");
            new.where_self(&allowed(&dest, old.size()[1], self.window, device), &old)
        } else {
            new
        };
        let _ = act.index_put_(&index, &new, false);
    }
}

/// Where destinations `dest [n]` may look among `n_src` keys, `[n, src]`: edits of attention touch nothing else.
fn allowed(dest: &Tensor, n_src: i64, window: Option<usize>, device: Device) -> Tensor {
    let src = Tensor::arange(n_src, (Kind::Int64, device)).unsqueeze(0);
    let dest = dest.unsqueeze(1);
    let causal = src.le_tensor(&dest);
    match window {
        Some(window) => causal.logical_and(&(dest - src).lt(window as i64)),
        None => causal,
    }
}

impl Hooks for Edits {
    fn wants(&self, at: HookPoint) -> bool {
        self.points.contains_key(&at.order())
    }

    fn visit(&mut self, at: HookPoint, first_pos: usize, act: Tensor) -> Tensor {
        match self.points.get_mut(&at.order()) {
            Some(point) => point.apply(first_pos, act),
            None => act,
        }
    }
}
