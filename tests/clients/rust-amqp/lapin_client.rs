//! lapin.

use futures_lite::StreamExt;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};

use crate::{Done, Fate, PATIENCE, Seen, Show, url};

async fn open() -> Done<(Connection, Channel)> {
    // to this library the empty path is the virtual host without a name
    let url = url()?.trim_end_matches('/').to_owned() + "/%2f";
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

pub async fn topology(name: &str, kind: &str) -> Done {
    let (connection, channel) = open().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let lasting = QueueDeclareOptions { durable: true, ..Default::default() };
    let (dlx, dead) = (format!("{name}-dlx"), format!("{name}-dead"));
    let none = FieldTable::default;
    channel.exchange_declare(dlx.as_str().into(), ExchangeKind::Fanout, durable, none()).await?;
    channel.queue_declare(dead.as_str().into(), lasting, none()).await?;
    let bind = QueueBindOptions::default();
    channel.queue_bind(dead.as_str().into(), dlx.as_str().into(), "".into(), bind, none()).await?;
    channel.exchange_declare(name.into(), ExchangeKind::Direct, durable, none()).await?;
    let mut arguments = none();
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(dlx.as_str().into()));
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    channel.queue_declare(name.into(), lasting, arguments).await?;
    channel.queue_bind(name.into(), name.into(), "orders".into(), bind, none()).await?;
    Ok(connection.close(200, "".into()).await?)
}

pub async fn publish(name: &str, lines: Vec<String>) -> Done {
    let (connection, channel) = open().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
    let mut waiting = Vec::new();
    for line in &lines {
        let properties =
            BasicProperties::default().with_delivery_mode(2).with_content_type("text/plain".into());
        let sent = channel
            .basic_publish(name.into(), "orders".into(), mandatory, line.as_bytes(), properties)
            .await?;
        waiting.push(sent);
    }
    for confirm in waiting {
        if !confirm.await?.is_ack() {
            return Err("a publish was not confirmed".into());
        }
    }
    Ok(connection.close(200, "".into()).await?)
}

pub async fn unroutable(name: &str) -> Done {
    let (connection, channel) = open().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
    let properties = BasicProperties::default();
    let sent = channel.basic_publish(name.into(), "nowhere".into(), mandatory, b"lost", properties);
    let returned = sent.await?.await?.take_message().ok_or("nothing was returned")?;
    println!("{}\t{}", returned.reply_code, returned.reply_text);
    Ok(connection.close(200, "".into()).await?)
}

pub async fn take(queue: &str, prefetch: u16, count: &mut usize, show: Show) -> Done {
    let (connection, channel) = open().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    while *count > 0 {
        let next = tokio::time::timeout(PATIENCE, consumer.next()).await;
        let delivery = next?.ok_or("the channel was closed")??;
        let seen = Seen {
            redelivered: delivery.redelivered,
            body: String::from_utf8(delivery.data.clone())?,
            death: delivery.properties.headers().as_ref().and_then(first_death),
        };
        match show(&seen)? {
            Fate::Ack => delivery.ack(BasicAckOptions::default()).await?,
            Fate::Requeue => {
                delivery.nack(BasicNackOptions { requeue: true, ..Default::default() }).await?
            }
            Fate::Reject => delivery.reject(BasicRejectOptions { requeue: false }).await?,
        };
        *count -= 1;
    }
    Ok(connection.close(200, "".into()).await?)
}

fn first_death(headers: &FieldTable) -> Option<[String; 3]> {
    let AMQPValue::FieldArray(deaths) = headers.inner().get("x-death")? else { return None };
    let AMQPValue::FieldTable(death) = deaths.as_slice().first()? else { return None };
    let word = |name: &str| match death.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        Some(AMQPValue::LongLongInt(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    Some([word("reason"), word("queue"), word("count")])
}
