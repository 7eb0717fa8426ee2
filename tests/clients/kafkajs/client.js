// kafkajs. It reads only as a member of a group, and compresses with gzip only.
const { Kafka, CompressionTypes, Partitioners, logLevel } = require('kafkajs')
const { readFileSync } = require('node:fs')

const kafka = new Kafka({ brokers: [process.env.KAFKA], logLevel: logLevel.ERROR, retry: { retries: 8 } })

async function administer(work) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    await work(admin)
  } finally {
    await admin.disconnect()
  }
}

// The lines of the input as records of partition 0.
function records() {
  return readFileSync(0, 'utf8').split('\n').filter(Boolean).map(line => {
    const at = line.indexOf('=')
    return { key: line.slice(0, at), value: line.slice(at + 1), partition: 0 }
  })
}

const commands = {
  create: (topic, partitions) =>
    administer(admin => admin.createTopics({ topics: [{ topic, numPartitions: Number(partitions), replicationFactor: 1 }] })),

  delete: topic => administer(admin => admin.deleteTopics({ topics: [topic] })),

  async produce(topic, codec, acks) {
    const messages = records()
    const producer = kafka.producer({
      createPartitioner: Partitioners.DefaultPartitioner,
      idempotent: acks === 'idempotent',
      maxInFlightRequests: 1,
    })
    await producer.connect()
    try {
      const compression = codec === 'gzip' ? CompressionTypes.GZIP : CompressionTypes.None
      const confirmation = { 0: 0, 1: 1 }[acks] ?? -1
      for (let at = 0; at < messages.length; at += 20) {
        await producer.send({ topic, compression, acks: confirmation, messages: messages.slice(at, at + 20) })
      }
    } finally {
      await producer.disconnect()
    }
  },

  async transact(topic, transactionalId) {
    const producer = kafka.producer({
      createPartitioner: Partitioners.DefaultPartitioner, transactionalId, idempotent: true, maxInFlightRequests: 1,
    })
    await producer.connect()
    try {
      for (const message of records()) {
        const transaction = await producer.transaction()
        await transaction.send({ topic, messages: [message] })
        await (message.value.startsWith('!') ? transaction.abort() : transaction.commit())
      }
    } finally {
      await producer.disconnect()
    }
  },

  async group(topic, groupId, count) {
    const consumer = kafka.consumer({ groupId })
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    let seen = 0
    await new Promise((resolve, reject) => {
      setTimeout(() => reject(new Error(`only ${seen} records`)), 40000).unref()
      consumer.run({
        autoCommit: false,
        eachMessage: async ({ partition, message }) => {
          if (seen >= Number(count)) return
          process.stdout.write(`${message.offset}\t${message.key}\t${message.value}\n`)
          seen += 1
          if (seen === Number(count)) {
            await consumer.commitOffsets([{ topic, partition, offset: String(BigInt(message.offset) + 1n) }])
            resolve()
          }
        },
      }).catch(reject)
    })
    await consumer.disconnect()
  },

  async member(topic, groupId) {
    const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 300 })
    const say = line => process.stdout.write(`${line}\n`)
    consumer.on(consumer.events.REBALANCING, () => say('has '))
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => say(`has ${[...(payload.memberAssignment[topic] ?? [])].sort().join(',')}`))
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        await consumer.commitOffsets([{ topic, partition, offset: String(BigInt(message.offset) + 1n) }])
        say(`got ${partition} ${message.value}`)
      },
    })
    process.stdin.resume()
    await new Promise(resolve => process.stdin.on('end', resolve))
    await consumer.disconnect()
  },
}

const [command, ...rest] = process.argv.slice(2)
commands[command](...rest).catch(error => {
  console.error(error.message)
  process.exitCode = 1
})
