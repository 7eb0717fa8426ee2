use proptest::prelude::*;

use super::*;

fn tag(number: u64) -> DeliveryTag {
    DeliveryTag(number)
}

fn three() -> Tags<char> {
    let mut tags = Tags::new();
    assert_eq!("abc".chars().map(|c| tags.push(c).0).collect::<Vec<_>>(), [1, 2, 3]);
    tags
}

#[test]
fn a_tag_is_settled_once() {
    let mut tags = three();
    assert_eq!(tags.settle(tag(2)), Ok('b'));
    let unknown = tags.settle(tag(2)).unwrap_err();
    assert_eq!(unknown.to_string(), "unknown delivery tag 2");
    assert_eq!(tags.settle(tag(82)), Err(UnknownTag(tag(82))));
    assert_eq!(tags.settle(tag(0)), Err(UnknownTag(tag(0))));
    assert_eq!(tags.iter().collect::<Vec<_>>(), [(tag(1), &'a'), (tag(3), &'c')]);
}

#[test]
fn multiple_settles_up_to_the_tag_and_zero_settles_all() {
    let mut tags = three();
    assert_eq!(tags.settle_through(tag(2)).unwrap().collect::<String>(), "ab");
    assert!(tags.settle_through(tag(2)).is_err());
    assert!(tags.settle_through(tag(9)).is_err());
    assert_eq!(tags.settle_through(tag(0)).unwrap().collect::<String>(), "c");
    assert_eq!(tags.settle_through(tag(0)).unwrap().count(), 0);
    assert!(tags.is_empty());
    assert_eq!(tags.push('d'), tag(4));
}

#[test]
fn deliveries_without_acknowledgement_take_numbers_and_no_memory() {
    let mut tags = three();
    assert_eq!(tags.skip(), tag(4));
    assert_eq!(tags.settle(tag(4)), Err(UnknownTag(tag(4))));
    assert_eq!(tags.len(), 3);
}

#[test]
fn one_forgotten_delivery_does_not_hold_the_memory_of_all_after_it() {
    let mut tags = Tags::new();
    tags.push(0);
    for n in 1..100_000 {
        let tag = tags.push(n);
        assert_eq!(tags.settle(tag), Ok(n));
        assert!(tags.slots.len() <= 2 * HOLES_MIN + 2);
    }
    assert_eq!(tags.settle(tag(1)), Ok(0));
    assert!(tags.is_empty());
}

#[test]
fn a_restored_delivery_is_outstanding_under_its_old_tag() {
    let mut tags = Tags::new();
    for name in ["a", "b", "c", "d"] {
        tags.push(name);
    }
    let first = tags.settle(tag(1)).unwrap();
    let third = tags.settle(tag(3)).unwrap();
    tags.restore(tag(3), third); // its slot is still there
    tags.restore(tag(1), first); // its slot was given up
    assert_eq!(tags.len(), 4);
    let all: Vec<_> = tags.settle_through(tag(4)).unwrap().collect();
    assert_eq!(all, ["a", "b", "c", "d"]);
    assert!(tags.is_empty());
}

proptest! {
    #[test]
    fn tags_behave_like_a_list_searched_from_the_front(
        commands in proptest::collection::vec((0u8..5, 0u64..80), 0..300)
    ) {
        let (mut tags, mut model) = (Tags::new(), Vec::<u64>::new());
        for (command, n) in commands {
            let at = model.iter().position(|known| *known == n);
            match command {
                0 | 1 => model.push(tags.push(tags.last.0 + 1).0),
                2 | 3 => {
                    let expected = at.map(|at| model.remove(at));
                    prop_assert_eq!(tags.settle(tag(n)).ok(), expected);
                }
                _ => {
                    let expected: Option<Vec<u64>> = at.map(|at| model.drain(..=at).collect());
                    let settled = tags.settle_through(tag(n));
                    if n > 0 {
                        prop_assert_eq!(settled.ok().map(Iterator::collect), expected);
                    } else {
                        prop_assert_eq!(settled.unwrap().collect::<Vec<_>>(), std::mem::take(&mut model));
                    }
                }
            }
            prop_assert_eq!(tags.len(), model.len());
            prop_assert_eq!(tags.is_empty(), model.is_empty());
        }
        prop_assert_eq!(tags.drain().collect::<Vec<_>>(), model);
    }
}
