use proptest::prelude::*;

use super::*;

fn release(confirms: &mut Confirms, durable: u64) -> String {
    let mut answers = Vec::new();
    confirms.release(durable, |confirm| {
        answers.push(match confirm {
            Confirm::Ack { tag, multiple: false } => format!("ack {tag}"),
            Confirm::Ack { tag, multiple: true } => format!("ack ..{tag}"),
            Confirm::Nack { tag } => format!("nack {tag}"),
        });
    });
    answers.join(", ")
}

#[test]
fn publishes_are_confirmed_up_to_the_first_that_is_not_durable() {
    let mut confirms = Confirms::new();
    for lsn in [100, 200, 300, 400] {
        confirms.wait(lsn);
    }
    assert_eq!(release(&mut confirms, 100), "", "the log is durable up to, not past, the first");
    assert_eq!(release(&mut confirms, 101), "ack 1");
    assert_eq!(confirms.waits_for(), Some(200));
    assert_eq!(release(&mut confirms, 301), "ack ..3");
    assert_eq!(release(&mut confirms, 999), "ack 4");
    assert!(confirms.is_empty());
    assert_eq!(confirms.waits_for(), None);
}

#[test]
fn a_refused_publish_is_answered_alone_and_before_what_follows_it() {
    let mut confirms = Confirms::new();
    confirms.wait(10);
    confirms.accept();
    confirms.refuse();
    confirms.refuse();
    confirms.wait(20);
    confirms.wait(30);
    assert_eq!(release(&mut confirms, 30), "ack ..2, nack 3, nack 4, ack 5");
    assert_eq!(release(&mut confirms, 31), "ack 6");
}

proptest! {
    #[test]
    fn every_publish_is_answered_once_with_what_became_of_it(
        publishes in proptest::collection::vec((0u8..3, 0u64..5), 0..100),
        releases in proptest::collection::vec(0u64..300, 0..20),
    ) {
        let mut confirms = Confirms::new();
        let mut lsn = 0;
        let mut fates = Vec::new(); // refused, and the position that must be durable
        for (fate, step) in publishes {
            lsn += step;
            match fate {
                0 => confirms.wait(lsn),
                1 => confirms.accept(),
                _ => confirms.refuse(),
            };
            fates.push((fate == 2, if fate == 0 { lsn } else { 0 }));
        }
        let mut next = 1;
        for durable in releases.into_iter().chain([u64::MAX]) {
            confirms.release(durable, |confirm| {
                let (last, refused) = match confirm {
                    Confirm::Ack { tag, multiple } => {
                        assert_eq!(multiple, tag.0 > next);
                        (tag.0, false)
                    }
                    Confirm::Nack { tag } => (tag.0, true),
                };
                for number in next..=last {
                    let (was_refused, needs) = fates[usize::try_from(number).unwrap() - 1];
                    assert_eq!(was_refused, refused);
                    assert!(needs < durable || needs == 0);
                }
                assert!(last >= next);
                next = last + 1;
            });
        }
        prop_assert_eq!(usize::try_from(next).unwrap() - 1, fates.len());
    }
}
