//! The seed's pattern 1, competing consumers: three instances of a service share a queue, each message is
//! handled by one of them.
#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use std::sync::Arc;

use ottla::handler::{Msg, State};
use ottla::{Connection, Error, Message, Policy, Service};
use serde::{Deserialize, Serialize};
use tokio::sync::{Barrier, mpsc, watch};
use tokio::task::JoinSet;

#[derive(Serialize, Deserialize, Message)]
#[message(name = "resize.image")]
struct ResizeImage {
    image: u32,
}

/// What an instance is given: its number, the moment when all three hold a message, and who counts.
type Instance = (u32, Arc<Barrier>, mpsc::Sender<(u32, u32)>);

async fn resize(
    Msg(m): Msg<ResizeImage>,
    State((number, all, done)): State<Instance>,
) -> Result<(), Error> {
    all.wait().await; // heavy work: goes on only while all three are at it
    done.send((number, m.image)).await.map_err(|_| Error::Closed("the count"))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let broker = Connection::open("memory:").await?; // or kafka://…, amqp://…, ottla://…
    let (all, (done, mut counted)) = (Arc::new(Barrier::new(3)), mpsc::channel::<(u32, u32)>(9));
    let (stop, stopped) = watch::channel(false);
    let mut running = JoinSet::new();
    for number in 1..=3 {
        let instance: Instance = (number, Arc::clone(&all), done.clone());
        let service = Service::new("resizing", &broker) // one name: they share
            .state(instance)
            .on_with("queue:images", Policy::default().concurrency(1).in_flight(1), resize);
        let mut stopped = stopped.clone();
        running.spawn(service.run(async move { drop(stopped.wait_for(|stop| *stop).await) }));
    }
    for image in 1..=9 {
        broker.publish("queue:images", &ResizeImage { image }).await?;
    }
    let mut images = [0; 3];
    let mut handled = Vec::new();
    while handled.len() < 9
        && let Some((number, image)) = counted.recv().await
    {
        println!("consumer {number} resizes image {image}");
        handled.push(image);
        images.iter_mut().zip(1..).filter(|(_, n)| *n == number).for_each(|(count, _)| *count += 1);
    }
    stop.send(true).ok();
    while running.join_next().await.is_some() {}
    handled.sort_unstable();
    assert_eq!(handled, (1..=9).collect::<Vec<u32>>(), "each once");
    println!("each of 9 images once; images by consumer: {images:?}");
    Ok(())
}
