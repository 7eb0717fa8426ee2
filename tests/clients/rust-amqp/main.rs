//! lapin and amqprs. Run by the suite in tests/clients; README.md there has the command line, which begins
//! with the library's name here.

mod amqprs_client;
mod lapin_client;

pub type Failure = Box<dyn std::error::Error + Send + Sync>;
pub type Done<T = ()> = Result<T, Failure>;

/// What becomes of a message that was shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Ack,
    Requeue,
    Reject,
}

/// A message as the commands see it.
pub struct Seen {
    pub redelivered: bool,
    pub body: String,
    /// `reason queue count` of the first death.
    pub death: Option<[String; 3]>,
}

/// Shows a message as a command wants it and says what becomes of it.
pub type Show = fn(&Seen) -> Done<Fate>;

pub fn show(seen: &Seen) {
    println!("{}\t{}", seen.redelivered, seen.body);
}

fn consume(seen: &Seen) -> Done<Fate> {
    show(seen);
    Ok(Fate::Ack)
}

fn requeue(seen: &Seen) -> Done<Fate> {
    show(seen);
    Ok(if seen.redelivered { Fate::Ack } else { Fate::Requeue })
}

fn reject(_: &Seen) -> Done<Fate> {
    Ok(Fate::Reject)
}

fn dead(seen: &Seen) -> Done<Fate> {
    let [reason, queue, count] = seen.death.as_ref().ok_or("no x-death")?;
    println!("{reason}\t{queue}\t{count}\t{}", seen.body);
    Ok(Fate::Ack)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (library, words) = words.split_first().ok_or("no library")?;
    let lapin = *library == "lapin";
    match words {
        ["topology", name, kind] if lapin => lapin_client::topology(name, kind).await,
        ["topology", name, kind] => amqprs_client::topology(name, kind).await,
        ["publish", name] if lapin => lapin_client::publish(name, lines()).await,
        ["publish", name] => amqprs_client::publish(name, lines()).await,
        ["unroutable", name] if lapin => lapin_client::unroutable(name).await,
        ["unroutable", name] => amqprs_client::unroutable(name).await,
        ["consume", queue, prefetch, count] => {
            take_all(lapin, queue, prefetch.parse()?, count.parse()?, consume).await
        }
        ["requeue", queue] => take_all(lapin, queue, 1, 2, requeue).await,
        ["reject", queue, count] => take_all(lapin, queue, 5, count.parse()?, reject).await,
        ["dead", queue, count] => take_all(lapin, queue, 5, count.parse()?, dead).await,
        ["follow", queue, count] => follow(lapin, queue, count.parse()?).await,
        other => Err(format!("no command {other:?}").into()),
    }
}

async fn take_all(lapin: bool, queue: &str, prefetch: u16, mut count: usize, show: Show) -> Done {
    take(lapin, queue, prefetch, &mut count, show).await
}

/// Takes `count` messages; counts it down to those that are missing.
async fn take(lapin: bool, queue: &str, prefetch: u16, count: &mut usize, show: Show) -> Done {
    match lapin {
        true => lapin_client::take(queue, prefetch, count, show).await,
        false => amqprs_client::take(queue, prefetch, count, show).await,
    }
}

async fn follow(lapin: bool, queue: &str, mut count: usize) -> Done {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while count > 0 && std::time::Instant::now() < end {
        if take(lapin, queue, 1, &mut count, consume).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

fn lines() -> Vec<String> {
    std::io::stdin().lines().map_while(Result::ok).collect()
}

pub fn url() -> Done<String> {
    Ok(std::env::var("AMQP")?)
}

/// How long a message may take to come.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
