//! Bound edits at one hook point: grows the rows, copies, writes.

use tch::{Device, Kind, Tensor};

use super::bind::Edits;
use crate::device::upload;
use crate::hooks::{Hooks, grow, rows};
use crate::site::{HookPoint, Site};

/// What is written at places. Value tensors are `[place, width]`.
#[derive(Debug)]
pub(super) enum Op {
    Zero,
    Set(Tensor),
    /// Set to what the donor has; becomes `Set` for all rows at once when the point is closed.
    Pull(Pull),
    Add(Tensor),
    Scale(f64),
    Knockout(Vec<i64>),
}

/// Vectors of a donor's activation, one per place.
#[derive(Debug)]
pub(super) struct Pull {
    /// The donor's whole activation, without its batch axis.
    pub(super) act: Tensor,
    /// `(position in act, head)`.
    pub(super) from: Vec<(i64, i64)>,
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
    /// Rows, positions and heads of the places, and the keys of a knockout, where the pass runs: put there when the point is
    /// closed, so that nothing is sent in the middle of a pass.
    on_device: Option<OnDevice>,
}

#[derive(Debug)]
struct OnDevice {
    row: Tensor,
    pos: Tensor,
    head: Tensor,
    keys: Option<Tensor>,
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
                (Op::Pull(_), Op::Pull(_)) => true,
                (Op::Set(_), Op::Set(values)) | (Op::Add(_), Op::Add(values)) => {
                    group.more.push(values.shallow_clone());
                    true
                }
                _ => false,
            };
            if joined {
                // One hook point has one donor.
                if let (Op::Pull(pull), Op::Pull(more)) = (&mut group.op, op) {
                    pull.from.extend(more.from);
                }
                group.places.extend(places);
                return;
            }
        }
        turn.groups.push(Group { places, op, more: Vec::new(), on_device: None });
    }

    pub(super) fn max_row(&self) -> i64 {
        self.groups().flat_map(|group| &group.places).map(|place| place.0).max().unwrap_or(0)
    }

    pub(super) fn bound(&self) -> usize {
        self.groups().map(|group| group.places.len()).sum()
    }

    /// Settles how many rows leave this point, and puts what will be written where the pass runs.
    pub(super) fn close(&mut self, rows_after: i64, device_of: impl Fn(HookPoint) -> Device, kind: Kind) {
        let device = device_of(self.at);
        self.rows_after = rows_after;
        for group in self.turns.iter_mut().flat_map(|turn| &mut turn.groups) {
            let more = std::mem::take(&mut group.more);
            match &mut group.op {
                Op::Set(values) | Op::Add(values) if !more.is_empty() => {
                    let all: Vec<&Tensor> = std::iter::once(&*values).chain(&more).collect();
                    *values = Tensor::cat(&all, 0);
                }
                Op::Pull(pull) => {
                    let values = pull.values(self.at.site).to_device(device).to_kind(kind);
                    group.op = Op::Set(values);
                }
                _ => {}
            }
            let column =
                |f: fn(&(i64, i64, i64)) -> i64| upload(&group.places.iter().map(f).collect::<Vec<_>>(), device);
            let keys = match &group.op {
                Op::Knockout(keys) => Some(upload(keys, device)),
                _ => None,
            };
            group.on_device =
                Some(OnDevice { row: column(|p| p.0), pos: column(|p| p.1), head: column(|p| p.2), keys });
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
        let OnDevice { row, pos, head, keys } = group.on_device.as_ref().expect("the point is closed");
        // All of them, but for attention sites of prompts so long that destinations come in chunks.
        let some = (inside.len() < group.places.len()).then(|| upload(inside, device));
        let pick = |all: &Tensor| some.as_ref().map_or_else(|| all.shallow_clone(), |some| all.index_select(0, some));
        let (row, dest, head) = (pick(row), pick(pos), pick(head));
        let pos = &dest - first_pos;
        let index = match (self.at.site.is_attention(), self.at.site.head_axis()) {
            (true, _) => vec![Some(row), Some(head), Some(pos)],
            (false, Some(_)) => vec![Some(row), Some(pos), Some(head)],
            (false, None) => vec![Some(row), Some(pos)],
        };
        let old = act.index(&index);
        let new = match &group.op {
            Op::Zero => old.zeros_like(),
            Op::Set(values) => pick(values).to_kind(act.kind()),
            Op::Add(values) => &old + pick(values).to_kind(act.kind()),
            Op::Scale(factor) => &old * *factor,
            Op::Knockout(_) => old.index_fill(1, keys.as_ref().expect("a knockout's keys"), f64::NEG_INFINITY),
            Op::Pull(_) => unreachable!("closing turns these into Set"),
        };
        let new = if self.at.site.is_attention() {
            new.where_self(&allowed(&dest, old.size()[1], self.window, device), &old)
        } else {
            new
        };
        let _ = act.index_put_(&index, &new, false);
    }
}

impl Pull {
    /// `[place, width]`.
    fn values(&self, site: Site) -> Tensor {
        let device = self.act.device();
        let column = |f: fn(&(i64, i64)) -> i64| Some(upload(&self.from.iter().map(f).collect::<Vec<_>>(), device));
        let (pos, head) = (column(|from| from.0), column(|from| from.1));
        match (site.is_attention(), site.head_axis()) {
            (true, _) => self.act.index(&[head, pos]),
            (false, Some(_)) => self.act.index(&[pos, head]),
            (false, None) => self.act.index(&[pos]),
        }
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
