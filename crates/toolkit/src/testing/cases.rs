//! The promises, one after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Case;
use super::rig::{Counted, Rig, Shown, drain, hold, next, number, quiet};
use crate::connection::{DeadLetter, Delivery, Feed, Incoming, Reason, Settle};
use crate::envelope::Envelope;
use crate::transport::{Caps, Subscription};

pub(super) const ALL: &[Case] = &[
    case(
        "what_was_published_is_there_after_the_connection_is_gone",
        |caps| caps.durable,
        |rig| Box::pin(durable(rig)),
    ),
    case("an_envelope_arrives_as_it_was_sent", any, |rig| Box::pin(whole(rig))),
    case("each_message_of_a_queue_goes_to_one_consumer", any, |rig| Box::pin(competing(rig))),
    case("each_group_of_a_topic_gets_everything", any, |rig| Box::pin(groups(rig))),
    case("messages_with_one_key_keep_their_order", any, |rig| Box::pin(order(rig))),
    case("a_retried_message_comes_again_with_its_count", any, |rig| Box::pin(retry(rig))),
    case("a_delayed_message_does_not_come_early_nor_hold_up_others", any, |rig| {
        Box::pin(delay(rig))
    }),
    case("a_released_message_comes_again_and_nothing_is_counted", any, |rig| {
        Box::pin(release(rig))
    }),
    case("a_dead_message_is_set_aside_with_its_cause_and_can_be_sent_back", any, |rig| {
        Box::pin(dead(rig))
    }),
    case("poison_is_set_aside_and_the_rest_goes_on", any, |rig| Box::pin(poison(rig))),
    case("a_foreign_message_has_the_same_id_each_time", any, |rig| Box::pin(foreign(rig))),
    case("credit_bounds_what_is_in_flight", any, |rig| Box::pin(credit(rig))),
    case("a_drained_consumer_leaves_nothing_behind_and_takes_nothing_along", any, |rig| {
        Box::pin(drained(rig))
    }),
    case("what_a_lost_consumer_held_goes_to_another", any, |rig| Box::pin(lost(rig))),
    case("an_unsettled_message_is_not_passed_over_by_later_ones", any, |rig| {
        Box::pin(watermark(rig))
    }),
    case(
        "a_newcomer_takes_over_without_loss",
        |caps| caps.keyed_order,
        |rig| Box::pin(revoke(rig)),
    ),
    case(
        "a_reader_of_everything_is_told_when_it_is_up_to_date",
        |caps| caps.replay,
        |rig| Box::pin(live(rig)),
    ),
    case("the_depth_is_what_is_not_settled", any, |rig| Box::pin(depth(rig))),
];

const fn case(
    name: &'static str,
    needs: fn(Caps) -> bool,
    run: fn(Rig) -> crate::transport::BoxFuture<'static, Shown>,
) -> Case {
    Case { name, needs, run }
}

const fn any(_: Caps) -> bool {
    true
}

async fn durable(rig: Rig) -> Shown {
    let (topic, queue) = (rig.topic(), rig.queue());
    if !rig.connection.caps().replay {
        rig.consumer(&topic).await?.close().await?; // the group exists before
    }
    rig.publish(&topic, 0, 20, 5).await?;
    rig.publish(&queue, 0, 20, 5).await?;
    let open = rig.open;
    let (topic_again, queue_again) = (topic.clone(), queue.clone());
    rig.connection.close().await?;
    drop(rig);
    let connection = open().await?;
    for source in [topic_again, queue_again] {
        let mut feed = connection.subscribe(Subscription::new(source, "readers")).await?;
        let mut numbers = drain(&mut feed, 20).await?;
        numbers.sort_unstable();
        hold(numbers == (0..20).collect::<Vec<_>>(), format!("got {numbers:?}"))?;
        feed.close().await?;
    }
    Ok(())
}

async fn whole(rig: Rig) -> Shown {
    let mint = rig.connection.mint();
    let cause = Envelope::raw("cause", "", mint);
    let sent = Envelope::of(&Counted { key: "ключ".into(), number: 1 }, mint)?;
    let sent = sent.caused_by(&cause, mint).with_header("tenant", "ä b=c");
    let sent = Envelope { version: 7, trace: Some(crate::TraceContext::begin(mint)), ..sent };
    for source in [rig.topic(), rig.queue()] {
        let mut feed = rig.consumer(&source).await?;
        rig.connection.send(&source, [sent.clone()]).await?;
        let delivery = next(&mut feed).await?;
        hold(delivery.envelope == sent, format!("{:?} became {:?}", sent, delivery.envelope))?;
        delivery.ack();
        feed.close().await?;
    }
    Ok(())
}

async fn competing(rig: Rig) -> Shown {
    let queue = rig.queue();
    let mut consumers = [rig.member(&queue, "a", 5).await?, rig.member(&queue, "a", 5).await?];
    rig.publish(&queue, 0, 100, 100).await?;
    let mut seen = Vec::new();
    let [first, second] = &mut consumers;
    while seen.len() < 100 {
        let delivery = tokio::select! {
            delivery = next(first) => delivery?,
            delivery = next(second) => delivery?,
        };
        seen.push(number(&delivery)?);
        delivery.ack();
    }
    quiet(first, SHORT).await?;
    seen.sort_unstable();
    hold(seen == (0..100).collect::<Vec<_>>(), format!("got {seen:?}"))
}

async fn groups(rig: Rig) -> Shown {
    let topic = rig.topic();
    let mut feeds =
        [rig.member(&topic, "mail", 256).await?, rig.member(&topic, "stock", 256).await?];
    rig.publish(&topic, 0, 30, 7).await?;
    for feed in &mut feeds {
        let mut numbers = drain(feed, 30).await?;
        numbers.sort_unstable();
        hold(numbers == (0..30).collect::<Vec<_>>(), format!("got {numbers:?}"))?;
    }
    Ok(())
}

async fn order(rig: Rig) -> Shown {
    let topic = rig.topic();
    let mut first = rig.consumer(&topic).await?;
    let mut second = match rig.connection.caps().keyed_order {
        true => Some(rig.consumer(&topic).await?),
        false => None,
    };
    rig.publish(&topic, 0, 100, 10).await?;
    rig.publish(&topic, 100, 200, 10).await?;
    let mut newest: BTreeMap<String, u32> = BTreeMap::new();
    let mut seen = 0;
    while seen < 200 {
        let delivery = match &mut second {
            Some(second) => tokio::select! {
                delivery = next(&mut first) => delivery?,
                delivery = next(second) => delivery?,
            },
            None => next(&mut first).await?,
        };
        let Counted { key, number } = delivery.envelope.decode()?;
        // a consumer that lets a partition go may have had the same before
        let before = newest.insert(key.clone(), number);
        hold(before.is_none_or(|b| b < number), format!("{key}: {number} after {before:?}"))?;
        seen += 1;
        delivery.ack();
    }
    Ok(())
}

fn failed(after: Duration) -> Settle {
    Settle::Retry { after, cause: "the conformance suite says no".to_owned() }
}

async fn retry(rig: Rig) -> Shown {
    for source in [rig.topic(), rig.queue()] {
        let mut feed = rig.consumer(&source).await?;
        rig.publish(&source, 0, 1, 1).await?;
        let mut id = None;
        for attempt in 1..=4 {
            let delivery = next(&mut feed).await?;
            hold(delivery.attempt() == attempt, format!("{} of {attempt}", delivery.attempt()))?;
            let same = id.replace(delivery.envelope.id).is_none_or(|id| id == delivery.envelope.id);
            hold(same, "another id at the next attempt")?;
            match attempt {
                4 => delivery.ack(),
                _ => delivery.settle(failed(Duration::from_millis(20))).await?,
            }
        }
        quiet(&mut feed, SHORT).await?;
        feed.close().await?;
    }
    Ok(())
}

async fn delay(rig: Rig) -> Shown {
    for source in [rig.topic(), rig.queue()] {
        let mut feed = rig.consumer(&source).await?;
        rig.publish(&source, 0, 2, 2).await?;
        let started = tokio::time::Instant::now();
        for _ in 0..2 {
            let delivery = next(&mut feed).await?;
            let wait = if number(&delivery)? == 0 { 2_500 } else { 700 };
            delivery.settle(failed(Duration::from_millis(wait))).await?;
        }
        rig.publish(&source, 2, 3, 1).await?;
        let mut came = Vec::new();
        for _ in 0..3 {
            let delivery = next(&mut feed).await?;
            came.push((number(&delivery)?, started.elapsed()));
            delivery.ack();
        }
        let numbers: Vec<u32> = came.iter().map(|(number, _)| *number).collect();
        hold(numbers == [2, 1, 0], format!("in the order {came:?}"))?;
        let early = came.iter().any(|(number, at)| match number {
            0 => at.as_millis() < 2_500,
            1 => at.as_millis() < 700,
            _ => false,
        });
        hold(!early, format!("early: {came:?}"))?;
        feed.close().await?;
    }
    Ok(())
}

async fn release(rig: Rig) -> Shown {
    for source in [rig.topic(), rig.queue()] {
        let mut feed = rig.consumer(&source).await?;
        rig.publish(&source, 0, 3, 1).await?;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(next(&mut feed).await?);
        }
        held.into_iter().for_each(Delivery::release);
        let mut again = Vec::new();
        for _ in 0..3 {
            let delivery = next(&mut feed).await?;
            hold(delivery.attempt() == 1, format!("attempt {}", delivery.attempt()))?;
            again.push(number(&delivery)?);
            delivery.ack();
        }
        again.sort_unstable();
        hold(again == [0, 1, 2], format!("came again: {again:?}"))?;
        feed.close().await?;
    }
    Ok(())
}

async fn dead(rig: Rig) -> Shown {
    for source in [rig.topic(), rig.queue()] {
        let mut feed = rig.consumer(&source).await?;
        rig.publish(&source, 0, 1, 1).await?;
        next(&mut feed).await?.settle(failed(Duration::from_millis(5))).await?;
        let delivery = next(&mut feed).await?;
        let id = delivery.envelope.id;
        let cause = "no such product".to_owned();
        delivery.settle(Settle::Dead { reason: Reason::Permanent, cause }).await?;
        let place = crate::connection::dead_address(&source, "readers");
        let mut letters = rig.member(&place, "operator", 16).await?;
        let letter = next(&mut letters).await?;
        let read = DeadLetter::read(letter.envelope.clone());
        let read = read.ok_or("the dead letter does not say what it is")?;
        hold(
            read.reason == Reason::Permanent && read.cause == "no such product",
            format!("{read:?}"),
        )?;
        hold(read.attempts == 2 && read.history.len() == 2, format!("{read:?}"))?;
        hold(read.source == source && read.group == "readers", format!("{read:?}"))?;
        let (to, again) = read.redriven();
        rig.connection.send(to, [again]).await?;
        letter.ack();
        let delivery = next(&mut feed).await?;
        hold(delivery.envelope.id == id && delivery.attempt() == 1, "not the same, or counted")?;
        delivery.ack();
        feed.close().await?;
        letters.close().await?;
    }
    Ok(())
}

async fn poison(rig: Rig) -> Shown {
    for source in [rig.topic(), rig.queue()] {
        let mut feed = rig.consumer(&source).await?;
        let mint = rig.connection.mint();
        let mut batch = rig.counted(0, 4, 1);
        let poison = Envelope::raw("conformance.counted", &b"\xff{"[..], mint);
        batch.insert(2, poison.with_key("key-0"));
        rig.connection.send(&source, batch).await?;
        let (mut good, mut bad) = (0, 0);
        for _ in 0..5 {
            let delivery = next(&mut feed).await?;
            match delivery.envelope.decode::<Counted>() {
                Ok(_) => {
                    good += 1;
                    delivery.ack();
                }
                Err(error) => {
                    bad += 1;
                    let (reason, cause) = (Reason::Undecodable, error.to_string());
                    delivery.settle(Settle::Dead { reason, cause }).await?;
                }
            }
        }
        hold((good, bad) == (4, 1), format!("{good} good, {bad} bad"))?;
        quiet(&mut feed, SHORT).await?;
        feed.close().await?;
    }
    Ok(())
}

async fn foreign(rig: Rig) -> Shown {
    let topic = rig.topic();
    let mut feed = rig.consumer(&topic).await?;
    let mint = rig.connection.mint();
    let sent =
        Envelope { name: String::new(), ..Envelope::raw("", r#"{"key":"k","number":3}"#, mint) };
    rig.connection.send(&topic, [sent]).await?;
    let delivery = next(&mut feed).await?;
    let id = delivery.envelope.id;
    hold(number(&delivery)? == 3, "a message without a name is what its reader expects")?;
    delivery.release();
    let again = next(&mut feed).await?;
    hold(again.envelope.id == id, "another id at the next delivery")?;
    again.ack();
    Ok(())
}

async fn credit(rig: Rig) -> Shown {
    for source in [rig.topic(), rig.queue()] {
        let mut feed = rig.member(&source, "readers", 3).await?;
        rig.publish(&source, 0, 10, 10).await?;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(next(&mut feed).await?);
        }
        quiet(&mut feed, SHORT).await?;
        held.into_iter().for_each(Delivery::ack);
        drain(&mut feed, 7).await?;
        feed.close().await?;
    }
    Ok(())
}

async fn drained(rig: Rig) -> Shown {
    for source in [rig.topic(), rig.queue()] {
        let mut leaving = rig.member(&source, "readers", 8).await?;
        rig.publish(&source, 0, 20, 20).await?;
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(next(&mut leaving).await?);
        }
        leaving.stop().await?;
        let mut finished = Vec::new();
        for delivery in held {
            finished.push(number(&delivery)?);
            delivery.ack(); // in flight when it was told to stop
        }
        leaving.close().await?;
        let mut staying = rig.consumer(&source).await?;
        let mut numbers = drain(&mut staying, 16).await?;
        hold(numbers.iter().all(|n| !finished.contains(n)), "what was done comes again")?;
        numbers.append(&mut finished);
        numbers.sort_unstable();
        hold(numbers == (0..20).collect::<Vec<_>>(), format!("got {numbers:?}"))?;
        staying.close().await?;
    }
    Ok(())
}

async fn lost(rig: Rig) -> Shown {
    for source in [rig.topic(), rig.queue()] {
        let mut lost = rig.consumer(&source).await?;
        rig.publish(&source, 0, 5, 5).await?;
        let mut held = Vec::new();
        for _ in 0..5 {
            held.push(next(&mut lost).await?);
        }
        drop(lost);
        drop(held); // nobody settles them
        let mut other = rig.consumer(&source).await?;
        let mut numbers = drain(&mut other, 5).await?;
        numbers.sort_unstable();
        hold(numbers == [0, 1, 2, 3, 4], format!("got {numbers:?}"))?;
        other.close().await?;
    }
    Ok(())
}

async fn watermark(rig: Rig) -> Shown {
    for source in [rig.topic(), rig.queue()] {
        let mut feed = rig.consumer(&source).await?;
        rig.publish(&source, 0, 6, 1).await?;
        let mut first = None;
        for _ in 0..6 {
            let delivery = next(&mut feed).await?;
            match number(&delivery)? {
                0 => first = Some(delivery),
                _ => delivery.ack(),
            }
        }
        feed.close().await?; // commits what may be committed
        drop(first);
        let mut other = rig.consumer(&source).await?;
        let delivery = next(&mut other).await?;
        hold(number(&delivery)? == 0, format!("{} came first", number(&delivery)?))?;
        delivery.ack();
        other.close().await?;
    }
    Ok(())
}

async fn revoke(rig: Rig) -> Shown {
    let topic = rig.topic();
    let mut first = rig.consumer(&topic).await?;
    rig.publish(&topic, 0, 60, 60).await?;
    let mut held = Vec::new();
    while held.len() < 60 {
        held.push(next(&mut first).await?);
    }
    let (mut seen, mut second) = (Vec::new(), rig.consumer(&topic).await?);
    let revoked = loop {
        match tokio::time::timeout(REBALANCE, first.next()).await? {
            // What is tried again may be partitioned too, and goes on its own.
            Some(Ok(Incoming::Revoked(revoked)))
                if held.iter().any(|delivery| revoked.lanes.contains(&delivery.lane())) =>
            {
                break revoked;
            }
            Some(Ok(_)) => {}
            other => return Err(format!("instead of a revocation: {other:?}").into()),
        }
    };
    for delivery in held {
        seen.push(number(&delivery)?);
        delivery.ack(); // finished before it lets go
    }
    drop(revoked);
    rig.publish(&topic, 60, 160, 100).await?;
    let (mut here, mut there) = (0, 0);
    while seen.len() < 160 {
        let (delivery, count) = tokio::select! {
            delivery = next(&mut first) => (delivery?, &mut here),
            delivery = next(&mut second) => (delivery?, &mut there),
        };
        *count += 1;
        seen.push(number(&delivery)?);
        delivery.ack();
    }
    hold(here > 0 && there > 0, format!("{here} here, {there} there"))?;
    seen.sort_unstable();
    hold(seen == (0..160).collect::<Vec<_>>(), format!("got {seen:?}"))?;
    close(first).await?;
    close(second).await
}

async fn close(feed: Feed) -> Shown {
    Ok(feed.close().await?)
}

async fn live(rig: Rig) -> Shown {
    let topic = rig.topic();
    rig.publish(&topic, 0, 50, 10).await?;
    let mut view = rig.connection.subscribe(Subscription::all(&topic)).await?;
    let mut seen = 0;
    loop {
        match tokio::time::timeout(REBALANCE, view.next()).await? {
            Some(Ok(Incoming::Delivery(delivery))) => {
                seen += 1;
                delivery.ack();
            }
            Some(Ok(Incoming::Live)) => break,
            other => return Err(format!("instead of the end: {other:?}").into()),
        }
    }
    hold(seen == 50, format!("told after {seen} of 50"))?;
    rig.publish(&topic, 50, 51, 1).await?;
    let news = number(&next(&mut view).await?)?;
    hold(news == 50, format!("{news} instead of the news"))
}

async fn depth(rig: Rig) -> Shown {
    for source in [rig.topic(), rig.queue()] {
        let mut feed = rig.consumer(&source).await?;
        rig.publish(&source, 0, 10, 10).await?;
        drain(&mut feed, 10).await?;
        feed.close().await?;
        rig.publish(&source, 10, 14, 4).await?;
        let mut depth = 0;
        for _ in 0..50 {
            depth = rig.connection.depth(&source, "readers").await?;
            if depth == 4 {
                break; // brokers count a moment later
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        hold(depth == 4, format!("{depth} instead of 4"))?;
    }
    Ok(())
}

/// As long as nothing may come.
const SHORT: Duration = Duration::from_millis(300);
/// As long as a group may take to divide its work anew.
const REBALANCE: Duration = Duration::from_secs(30);
