//! Rows to RabbitMQ, or to Ottla over AMQP.

use ottla::{Address, Error, Outgoing, cloudevents};
use ottla_client::amqp::{AmqpError, BasicProperties, Post, Publisher, ShortStr, Table};

/// A broker, connected to when the first row is published and again after an error.
#[derive(Debug)]
pub(super) struct Amqp {
    url: String,
    publisher: Option<Publisher>,
}

impl Amqp {
    pub(super) fn new(url: &str) -> Self {
        Self { url: url.to_owned(), publisher: None }
    }

    /// Returns once the broker has confirmed all of them.
    pub(super) fn publish(&mut self, rows: &[Outgoing]) -> Result<(), Error> {
        let posts: Vec<Post> = rows.iter().map(post).collect();
        let outcome = match self.publisher.take() {
            Some(publisher) => Ok(publisher),
            None => Publisher::connect(&self.url),
        };
        let outcome = outcome.and_then(|mut publisher| {
            publisher.publish(&posts)?;
            Ok(publisher)
        });
        self.publisher = Some(outcome.map_err(judged)?);
        Ok(())
    }
}

/// CloudEvents in binary mode, as the toolkit's own AMQP transport writes them.
fn post(row: &Outgoing) -> Post {
    let envelope = &row.envelope;
    let mut headers = Table::new();
    cloudevents::binary(envelope, cloudevents::AMQP, |name, value| {
        headers.set(ShortStr::cut(name), value.to_owned());
    });
    let properties = BasicProperties {
        content_type: Some(ShortStr::cut(&envelope.content_type)),
        headers: headers.encode().ok(),
        delivery_mode: Some(2),
        correlation_id: Some(ShortStr::cut(&envelope.correlation.to_string())),
        message_id: Some(ShortStr::cut(&envelope.id.to_string())),
        timestamp: Some(envelope.time.0 / 1_000),
        kind: Some(ShortStr::cut(&envelope.name)),
        ..Default::default()
    };
    let (exchange, routing_key) = match &row.to {
        Address::Topic(exchange) => (exchange.clone(), envelope.name.clone()),
        Address::Queue(queue) => (String::new(), queue.clone()),
    };
    Post { exchange, routing_key, properties, body: envelope.body.clone() }
}

/// What is missing can be declared, who is down may come back: rows stay until then.
fn judged(error: AmqpError) -> Error {
    let hint = match &error {
        AmqpError::Unroutable { .. } => "declare the queue, or bind one to the exchange",
        AmqpError::Closed { code: 404, .. } => "declare the exchange",
        AmqpError::Closed { code: 403, .. } => "user, password and permissions are to be looked at",
        _ => "rows stay in the table until it answers",
    };
    Error::Unreachable {
        address: "the broker".to_owned(),
        source: Box::new(error),
        hint: hint.to_owned(),
    }
}
