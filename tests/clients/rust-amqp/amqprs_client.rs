//! amqprs.

use amqprs::callbacks::ChannelCallback;
use amqprs::channel::*;
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, FieldTable, FieldValue, Nack, Return};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{Done, Fate, PATIENCE, Seen, Show, url};

/// What the broker says of publishes.
enum Word {
    Confirmed(u64, bool),
    Refused,
    Returned(u16, String),
}

struct Ear(UnboundedSender<Word>);

#[async_trait::async_trait]
impl ChannelCallback for Ear {
    async fn close(&mut self, _: &Channel, _: CloseChannel) -> Result<(), amqprs::error::Error> {
        Ok(())
    }
    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), amqprs::error::Error> {
        Ok(())
    }
    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, amqprs::error::Error> {
        Ok(active)
    }
    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        self.0.send(Word::Confirmed(ack.delivery_tag(), ack.mutiple())).ok();
    }
    async fn publish_nack(&mut self, _: &Channel, _: Nack) {
        self.0.send(Word::Refused).ok();
    }
    async fn publish_return(&mut self, _: &Channel, told: Return, _: BasicProperties, _: Vec<u8>) {
        self.0.send(Word::Returned(told.reply_code(), told.reply_text().clone())).ok();
    }
}

async fn open() -> Done<(Connection, Channel)> {
    let connection = Connection::open(&OpenConnectionArguments::try_from(url()?.as_str())?).await?;
    let channel = connection.open_channel(None).await?;
    Ok((connection, channel))
}

async fn listen(channel: &Channel) -> Done<UnboundedReceiver<Word>> {
    let (say, hear) = unbounded_channel();
    channel.register_callback(Ear(say)).await?;
    channel.confirm_select(ConfirmSelectArguments::default()).await?;
    Ok(hear)
}

pub async fn topology(name: &str, kind: &str) -> Done {
    let (connection, channel) = open().await?;
    let exchange = |name: &str, kind: &str| {
        ExchangeDeclareArguments::new(name, kind).durable(true).finish()
    };
    let (dlx, dead) = (format!("{name}-dlx"), format!("{name}-dead"));
    channel.exchange_declare(exchange(&dlx, "fanout")).await?;
    channel.queue_declare(QueueDeclareArguments::durable_client_named(&dead)).await?;
    channel.queue_bind(QueueBindArguments::new(&dead, &dlx, "")).await?;
    channel.exchange_declare(exchange(name, "direct")).await?;
    let mut arguments = FieldTable::new();
    arguments.insert("x-dead-letter-exchange".try_into()?, FieldValue::S(dlx.as_str().try_into()?));
    arguments.insert("x-queue-type".try_into()?, FieldValue::S(kind.try_into()?));
    let queue = QueueDeclareArguments::durable_client_named(name).arguments(arguments).finish();
    channel.queue_declare(queue).await?;
    channel.queue_bind(QueueBindArguments::new(name, name, "orders")).await?;
    Ok(connection.close().await?)
}

pub async fn publish(name: &str, lines: Vec<String>) -> Done {
    let (connection, channel) = open().await?;
    let mut heard = listen(&channel).await?;
    for line in &lines {
        let mut properties = BasicProperties::default();
        properties.with_delivery_mode(2).with_content_type("text/plain");
        let arguments = BasicPublishArguments::new(name, "orders").mandatory(true).finish();
        channel.basic_publish(properties.finish(), line.clone().into_bytes(), arguments).await?;
    }
    let mut confirmed = 0;
    while confirmed < lines.len() {
        match tokio::time::timeout(PATIENCE, heard.recv()).await?.ok_or("closed")? {
            Word::Confirmed(upto, true) => confirmed = usize::try_from(upto)?,
            Word::Confirmed(_, false) => confirmed += 1,
            _ => return Err("a publish was not confirmed".into()),
        }
    }
    channel.close().await?;
    Ok(connection.close().await?)
}

pub async fn unroutable(name: &str) -> Done {
    let (connection, channel) = open().await?;
    let mut heard = listen(&channel).await?;
    let arguments = BasicPublishArguments::new(name, "nowhere").mandatory(true).finish();
    channel.basic_publish(BasicProperties::default(), b"lost".to_vec(), arguments).await?;
    match tokio::time::timeout(PATIENCE, heard.recv()).await?.ok_or("closed")? {
        Word::Returned(code, text) => println!("{code}\t{text}"),
        _ => return Err("nothing was returned".into()),
    }
    Ok(connection.close().await?)
}

pub async fn take(queue: &str, prefetch: u16, count: &mut usize, show: Show) -> Done {
    let (connection, channel) = open().await?;
    channel.basic_qos(BasicQosArguments::new(0, prefetch, false)).await?;
    let arguments = BasicConsumeArguments::new(queue, "");
    let (_, mut messages) = channel.basic_consume_rx(arguments).await?;
    while *count > 0 {
        let next = tokio::time::timeout(PATIENCE, messages.recv()).await?;
        let message = next.ok_or("the channel was closed")?;
        let deliver = message.deliver.ok_or("no delivery")?;
        let headers = message.basic_properties.as_ref().and_then(BasicProperties::headers);
        let seen = Seen {
            redelivered: deliver.redelivered(),
            body: String::from_utf8(message.content.unwrap_or_default())?,
            death: headers.and_then(first_death),
        };
        let tag = deliver.delivery_tag();
        match show(&seen)? {
            Fate::Ack => channel.basic_ack(BasicAckArguments::new(tag, false)).await?,
            Fate::Requeue => channel.basic_nack(BasicNackArguments::new(tag, false, true)).await?,
            Fate::Reject => channel.basic_reject(BasicRejectArguments::new(tag, false)).await?,
        }
        *count -= 1;
    }
    channel.close().await?;
    Ok(connection.close().await?)
}

/// The library lets nobody look into an array: what it shows of it has to do.
fn first_death(headers: &FieldTable) -> Option<[String; 3]> {
    let word = |name: &str| match headers.get(&name.try_into().ok()?)? {
        FieldValue::S(text) => Some(text.to_string()),
        _ => None,
    };
    let deaths = headers.get(&"x-death".try_into().ok()?)?.to_string();
    let (_, count) = deaths.split_once("count: ")?;
    let count = count.chars().take_while(char::is_ascii_digit).collect();
    Some([word("x-first-death-reason")?, word("x-first-death-queue")?, count])
}
