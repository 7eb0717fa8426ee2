//! Server-side assignors of KIP-848: who reads which partition. Pure functions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::MemberId;

/// A topic's UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicId(pub [u8; 16]);

/// A partition by its topic's UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Part {
    /// The topic.
    pub topic: TopicId,
    /// The partition's number.
    pub partition: i32,
}

/// A set of partitions.
pub type Parts = BTreeSet<Part>;

/// How partitions are given out. Append-only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Assignor {
    /// Even over all topics, with few moves: nobody has two more than somebody who wants one of them.
    #[default]
    Uniform,
    /// Each topic for itself: neighbours together, by the order of the members' names.
    Range,
}

/// A member as an assignor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applicant {
    /// Its name.
    pub member: MemberId,
    /// Ranks it for `Range`: the instance id of a static member, else the member id.
    pub rank: String,
    /// The topics that it wants.
    pub topics: BTreeSet<TopicId>,
    /// What it was given last.
    pub current: Parts,
}

impl Assignor {
    /// The assignor that Kafka calls so; `UNSUPPORTED_ASSIGNOR` (112) if there is none.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ => None,
        }
    }

    /// Gives every partition of `topics` (UUID and number of partitions) that somebody wants to one
    /// of those who want it.
    #[must_use]
    pub fn assign(
        self,
        topics: &BTreeMap<TopicId, u32>,
        applicants: &[Applicant],
    ) -> BTreeMap<MemberId, Parts> {
        match self {
            Self::Uniform => Uniform::new(topics, applicants).run(),
            Self::Range => range(topics, applicants),
        }
    }
}

impl fmt::Display for Assignor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        })
    }
}

fn parts_of(topic: TopicId, count: u32) -> impl Iterator<Item = Part> {
    (0..count).filter_map(move |n| Some(Part { topic, partition: i32::try_from(n).ok()? }))
}

fn range(topics: &BTreeMap<TopicId, u32>, applicants: &[Applicant]) -> BTreeMap<MemberId, Parts> {
    let mut ranked: Vec<&Applicant> = applicants.iter().collect();
    ranked.sort_by(|a, b| (&a.rank, &a.member).cmp(&(&b.rank, &b.member)));
    let mut given: BTreeMap<MemberId, Parts> =
        applicants.iter().map(|a| (a.member.clone(), Parts::new())).collect();
    for (topic, count) in topics {
        let takers: Vec<&&Applicant> = ranked.iter().filter(|a| a.topics.contains(topic)).collect();
        let Ok(len) = u32::try_from(takers.len()) else { continue };
        if len == 0 {
            continue;
        }
        let (share, extra) = (count / len, count % len);
        let mut parts = parts_of(*topic, *count);
        for (place, taker) in (0u32..).zip(takers) {
            let size = share + u32::from(place < extra);
            let own = parts.by_ref().take(usize::try_from(size).unwrap_or(usize::MAX));
            given.entry(taker.member.clone()).or_default().extend(own);
        }
    }
    given
}

/// The uniform assignor at work.
struct Uniform<'a> {
    applicants: &'a [Applicant],
    given: Vec<Parts>,
    /// Partitions nobody has yet.
    free: Vec<Part>,
    /// For each topic, who wants it.
    takers: BTreeMap<TopicId, Vec<usize>>,
}

impl<'a> Uniform<'a> {
    /// Everybody keeps what is still theirs to want; the rest is free.
    fn new(topics: &BTreeMap<TopicId, u32>, applicants: &'a [Applicant]) -> Self {
        let mut takers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        for (n, applicant) in applicants.iter().enumerate() {
            for topic in applicant.topics.iter().filter(|topic| topics.contains_key(topic)) {
                takers.entry(*topic).or_default().push(n);
            }
        }
        let mut owned = Parts::new();
        let exists = |part: &Part| {
            let count = topics.get(&part.topic).copied().unwrap_or(0);
            u32::try_from(part.partition).is_ok_and(|partition| partition < count)
        };
        let mut keep = |applicant: &Applicant| -> Parts {
            let wanted = applicant.current.iter().copied();
            let wanted = wanted.filter(|p| exists(p) && applicant.topics.contains(&p.topic));
            wanted.filter(|part| owned.insert(*part)).collect()
        };
        let given: Vec<Parts> = applicants.iter().map(&mut keep).collect();
        let all = topics.iter().flat_map(|(topic, count)| parts_of(*topic, *count));
        let free =
            all.filter(|part| takers.contains_key(&part.topic) && !owned.contains(part)).collect();
        Self { applicants, given, free, takers }
    }

    fn run(mut self) -> BTreeMap<MemberId, Parts> {
        let mut wishes = self.applicants.iter().map(|a| &a.topics);
        let first = wishes.next();
        if wishes.all(|topics| Some(topics) == first) {
            self.level();
        } else {
            self.fill();
            self.balance();
        }
        let members = self.applicants.iter().map(|a| a.member.clone());
        members.zip(self.given).collect()
    }

    /// All want the same: each gets the floor of the share, and the first few one more. Those who
    /// have most keep most, so that as little as possible moves.
    fn level(&mut self) {
        let members = self.given.len();
        if members == 0 {
            return;
        }
        let total = self.free.len() + self.given.iter().map(Parts::len).sum::<usize>();
        let (share, mut extra) = (total / members, total % members);
        let mut order: Vec<usize> = (0..members).collect();
        order.sort_by_key(|n| std::cmp::Reverse(self.given.get(*n).map_or(0, Parts::len)));
        let mut quotas = Vec::with_capacity(members);
        for n in order {
            let Some(own) = self.given.get_mut(n) else { continue };
            let quota = share + usize::from(extra > 0);
            extra = extra.saturating_sub(1);
            while own.len() > quota
                && let Some(part) = own.pop_last()
            {
                self.free.push(part);
            }
            quotas.push((n, quota));
        }
        self.free.sort_unstable();
        let mut free = std::mem::take(&mut self.free).into_iter();
        for (n, quota) in quotas {
            if let Some(own) = self.given.get_mut(n) {
                let missing = quota.saturating_sub(own.len());
                own.extend(free.by_ref().take(missing));
            }
        }
    }

    /// Wishes differ: each free partition goes to the one with the least of those who want it,
    /// partitions that few want first.
    fn fill(&mut self) {
        let mut free = std::mem::take(&mut self.free);
        let takers = |part: &Part| self.takers.get(&part.topic).map_or(0, Vec::len);
        free.sort_by_key(|part| (takers(part), *part));
        let mut loads: BTreeSet<(usize, usize)> =
            self.given.iter().enumerate().map(|(n, own)| (own.len(), n)).collect();
        for part in free {
            let wants =
                |n: usize| self.applicants.get(n).is_some_and(|a| a.topics.contains(&part.topic));
            let Some((load, n)) = loads.iter().find(|(_, n)| wants(*n)).copied() else { continue };
            loads.remove(&(load, n));
            loads.insert((load + 1, n));
            if let Some(own) = self.given.get_mut(n) {
                own.insert(part);
            }
        }
    }

    /// Moves partitions from those with more to those with at least two less, while there are any.
    /// Each move lowers the sum of the squares, so it ends; bounded all the same.
    fn balance(&mut self) {
        for _ in 0..MOVES_MAX {
            let Some((part, from, to)) = self.find_move() else { return };
            if let Some(own) = self.given.get_mut(from) {
                own.remove(&part);
            }
            if let Some(own) = self.given.get_mut(to) {
                own.insert(part);
            }
        }
    }

    fn find_move(&self) -> Option<(Part, usize, usize)> {
        let mut heavy: Vec<usize> = (0..self.given.len()).collect();
        heavy.sort_by_key(|n| std::cmp::Reverse(self.load(*n)));
        for from in heavy {
            let mut seen = None;
            for part in self.given.get(from)? {
                if seen.replace(part.topic) == Some(part.topic) {
                    continue; // who wants the topic was looked at already
                }
                let takers = self.takers.get(&part.topic).into_iter().flatten().copied();
                let to = takers.min_by_key(|n| self.load(*n));
                if let Some(to) = to.filter(|to| self.load(*to) + 2 <= self.load(from)) {
                    return Some((*part, from, to));
                }
            }
        }
        None
    }

    fn load(&self, n: usize) -> usize {
        self.given.get(n).map_or(0, Parts::len)
    }
}

/// Moves of one balancing; what is left uneven after so many stays so until the next.
const MOVES_MAX: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(n: u8) -> TopicId {
        TopicId([n; 16])
    }

    fn part(topic_number: u8, partition: i32) -> Part {
        Part { topic: topic(topic_number), partition }
    }

    fn applicant(name: &str, topics: &[u8]) -> Applicant {
        let topics = topics.iter().map(|n| topic(*n)).collect();
        Applicant { member: name.into(), rank: name.into(), topics, current: Parts::new() }
    }

    fn sizes(given: &BTreeMap<MemberId, Parts>) -> Vec<usize> {
        let mut sizes: Vec<usize> = given.values().map(Parts::len).collect();
        sizes.sort_unstable();
        sizes
    }

    /// Every partition has one owner, and one that wants it.
    fn check(
        topics: &BTreeMap<TopicId, u32>,
        applicants: &[Applicant],
        given: &BTreeMap<MemberId, Parts>,
    ) {
        let mut seen = Parts::new();
        for applicant in applicants {
            for part in &given[&applicant.member] {
                assert!(applicant.topics.contains(&part.topic), "unwanted");
                assert!(seen.insert(*part), "two owners");
            }
        }
        let wanted = topics.iter().filter(|(t, _)| applicants.iter().any(|a| a.topics.contains(t)));
        let count: u32 = wanted.map(|(_, count)| *count).sum();
        assert_eq!(seen.len(), usize::try_from(count).unwrap(), "nobody's");
    }

    fn again(
        topics: &BTreeMap<TopicId, u32>,
        applicants: &mut [Applicant],
    ) -> BTreeMap<MemberId, Parts> {
        let given = Assignor::Uniform.assign(topics, applicants);
        check(topics, applicants, &given);
        for applicant in applicants {
            applicant.current = given[&applicant.member].clone();
        }
        given
    }

    #[test]
    fn six_partitions_for_three_seven_and_back_to_two() {
        let topics = BTreeMap::from([(topic(1), 6)]);
        let mut members: Vec<Applicant> =
            ["a", "b", "c"].iter().map(|name| applicant(name, &[1])).collect();
        assert_eq!(sizes(&again(&topics, &mut members)), [2, 2, 2]);
        let before: Vec<Parts> = members.iter().map(|m| m.current.clone()).collect();
        members.extend(["d", "e", "f", "g"].iter().map(|name| applicant(name, &[1])));
        assert_eq!(sizes(&again(&topics, &mut members)), [0, 1, 1, 1, 1, 1, 1]);
        for (member, before) in members.iter().zip(before) {
            assert!(member.current.is_subset(&before), "moved for nothing");
        }
        for (len, expected) in [(6, vec![1; 6]), (5, vec![1, 1, 1, 1, 2]), (2, vec![3, 3])] {
            members.truncate(len);
            let kept: Vec<Parts> = members.iter().map(|m| m.current.clone()).collect();
            assert_eq!(sizes(&again(&topics, &mut members)), expected);
            for (member, kept) in members.iter().zip(kept) {
                assert!(kept.is_subset(&member.current), "lost something while there was more");
            }
        }
    }

    #[test]
    fn uniform_counts_over_all_topics_and_range_each_topic() {
        let topics: BTreeMap<TopicId, u32> = (1..=4).map(|n| (topic(n), 1)).collect();
        let members = [applicant("a", &[1, 2, 3, 4]), applicant("b", &[1, 2, 3, 4])];
        assert_eq!(sizes(&Assignor::Uniform.assign(&topics, &members)), [2, 2]);
        assert_eq!(sizes(&Assignor::Range.assign(&topics, &members)), [0, 4]);
    }

    #[test]
    fn range_keeps_neighbours_together() {
        let topics = BTreeMap::from([(topic(1), 5)]);
        let members = [applicant("b", &[1]), applicant("a", &[1])];
        let given = Assignor::Range.assign(&topics, &members);
        check(&topics, &members, &given);
        assert_eq!(given["a"], (0..3).map(|n| part(1, n)).collect());
        assert_eq!(given["b"], (3..5).map(|n| part(1, n)).collect());
    }

    #[test]
    fn different_wishes_are_met_evenly() {
        let topics = BTreeMap::from([(topic(1), 4), (topic(2), 4)]);
        let mut members =
            vec![applicant("a", &[1]), applicant("b", &[1, 2]), applicant("c", &[1, 2])];
        assert_eq!(sizes(&again(&topics, &mut members)), [2, 3, 3]);
        members.push(applicant("d", &[2]));
        let given = again(&topics, &mut members);
        for (from, to) in members.iter().flat_map(|a| members.iter().map(move |b| (a, b))) {
            let movable = given[&from.member].iter().any(|part| to.topics.contains(&part.topic));
            let (more, less) = (given[&from.member].len(), given[&to.member].len());
            assert!(!movable || more < less + 2, "{more} beside {less}");
        }
        members.remove(0);
        again(&topics, &mut members);
        let given = again(&topics, &mut members);
        assert!(given["d"].len() >= 2);
        members.clear();
        assert!(Assignor::Uniform.assign(&topics, &members).is_empty());
    }

    #[test]
    fn what_no_longer_exists_is_taken_away_and_what_is_new_given_out() {
        let mut members = vec![applicant("a", &[1]), applicant("b", &[1])];
        again(&BTreeMap::from([(topic(1), 2)]), &mut members);
        assert_eq!(sizes(&again(&BTreeMap::from([(topic(1), 4)]), &mut members)), [2, 2]);
        assert_eq!(sizes(&again(&BTreeMap::new(), &mut members)), [0, 0]);
    }

    #[test]
    fn a_thousand_members_and_ten_thousand_partitions_are_quick() {
        let topics: BTreeMap<TopicId, u32> = (1..=10).map(|n| (topic(n), 1_000)).collect();
        let wishes: Vec<u8> = (1..=10).collect();
        let mut members: Vec<Applicant> =
            (0..1_000).map(|n| applicant(&format!("m{n}"), &wishes)).collect();
        assert_eq!(sizes(&again(&topics, &mut members)), vec![10; 1_000]);
        members.pop();
        again(&topics, &mut members);
    }
}
