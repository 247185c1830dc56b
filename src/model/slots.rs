//! Hash slots: sets of them as sorted ranges, and the even split of all of them over the first
//! masters. Values only.

use std::fmt;

/// How many hash slots a Redis Cluster has (`CLUSTER_SLOTS` in cluster.h).
pub const SLOT_COUNT: u16 = 16384;

/// A set of slots, kept as sorted, disjoint, non-adjacent inclusive ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SlotSet(Vec<(u16, u16)>);

impl SlotSet {
    /// The inclusive ranges in ascending order.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// How many slots are in the set, 0 to 16384.
    pub fn len(&self) -> u16 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether no slot is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `slot` is in the set.
    pub fn contains(&self, slot: u16) -> bool {
        self.0
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&slot))
    }

    /// The lowest slot.
    pub fn first(&self) -> Option<u16> {
        self.0.first().map(|(first, _)| *first)
    }

    /// Slots in this set and not in `other`.
    pub fn minus(&self, other: &SlotSet) -> SlotSet {
        let mut left = Vec::new();
        for &(first, last) in &self.0 {
            let mut from = first;
            let mut spent = false;
            for &(cut_first, cut_last) in &other.0 {
                if cut_last < from || cut_first > last {
                    continue;
                }
                if cut_first > from {
                    left.push((from, cut_first - 1));
                }
                if cut_last >= last {
                    spent = true;
                    break;
                }
                from = cut_last + 1;
            }
            if !spent {
                left.push((from, last));
            }
        }
        SlotSet(left)
    }

    /// Slots in this set, in `other`, or in both.
    pub fn union(&self, other: &SlotSet) -> SlotSet {
        self.0.iter().chain(&other.0).copied().collect()
    }

    /// Every slot there is.
    pub fn all() -> SlotSet {
        SlotSet(vec![(0, SLOT_COUNT - 1)])
    }

    /// The slots that the `index`th of `masters` first masters takes: contiguous, and cut where
    /// redis-cli's `--cluster create` cuts (three masters: 0-5460, 5461-10922, 10923-16383).
    /// Empty when `index` is not below `masters`.
    pub fn planned(index: u16, masters: u16) -> SlotSet {
        if index >= masters {
            return SlotSet::default();
        }
        let cut = |i: u16| {
            let (i, masters) = (u32::from(i), u32::from(masters));
            let rounded = (2 * i * u32::from(SLOT_COUNT) + masters) / (2 * masters);
            u16::try_from(rounded).unwrap_or(SLOT_COUNT)
        };
        std::iter::once((cut(index), cut(index + 1).saturating_sub(1))).collect()
    }
}

impl FromIterator<(u16, u16)> for SlotSet {
    /// Collects inclusive ranges in any order; a range that runs backwards or past the last slot
    /// is left out.
    fn from_iter<I: IntoIterator<Item = (u16, u16)>>(ranges: I) -> Self {
        let mut sorted: Vec<(u16, u16)> = ranges
            .into_iter()
            .filter(|(first, last)| first <= last && *last < SLOT_COUNT)
            .collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (first, last) in sorted {
            match merged.last_mut() {
                Some((_, end)) if first <= *end + 1 => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        SlotSet(merged)
    }
}

impl fmt::Display for SlotSet {
    /// As Redis prints them: `0-5460 7000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            if first == last {
                write!(f, "{space}{first}")?;
            } else {
                write!(f, "{space}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn three_masters_are_cut_where_redis_cli_cuts() {
        let plan: Vec<String> = (0..3).map(|i| SlotSet::planned(i, 3).to_string()).collect();
        assert_eq!(plan, ["0-5460", "5461-10922", "10923-16383"]);
    }

    proptest! {
        #[test]
        fn any_plan_covers_every_slot_once_and_evenly(masters in 1u16..=1000) {
            let parts: Vec<SlotSet> = (0..masters).map(|i| SlotSet::planned(i, masters)).collect();
            let total: u32 = parts.iter().map(|p| u32::from(p.len())).sum();
            let union = parts.iter().fold(SlotSet::default(), |all, p| all.union(p));
            prop_assert_eq!(total, 16384);
            prop_assert_eq!(union, SlotSet::all());
            let sizes = parts.iter().map(SlotSet::len);
            prop_assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
        }

        #[test]
        fn minus_and_union_agree_with_single_slots(
            a in prop::collection::vec((0u16..200, 0u16..200), 0..6),
            b in prop::collection::vec((0u16..200, 0u16..200), 0..6),
        ) {
            let (a, b): (SlotSet, SlotSet) = (a.into_iter().collect(), b.into_iter().collect());
            let (minus, union) = (a.minus(&b), a.union(&b));
            for slot in 0..210 {
                prop_assert_eq!(minus.contains(slot), a.contains(slot) && !b.contains(slot));
                prop_assert_eq!(union.contains(slot), a.contains(slot) || b.contains(slot));
            }
            prop_assert_eq!(minus.ranges().iter().copied().collect::<SlotSet>(), minus);
        }
    }
}
