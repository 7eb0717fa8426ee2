// amqplib. Run by the suite in tests/clients; README.md there has the command line.
const amqp = require('amqplib')
const { readFileSync } = require('node:fs')

const show = message => process.stdout.write(`${message.fields.redelivered}\t${message.content}\n`)

// Takes `count` messages, hands each to `settle`, closes.
async function take(queue, prefetch, count, settle) {
  const connection = await amqp.connect(process.env.AMQP)
  const channel = await connection.createChannel()
  await channel.prefetch(Number(prefetch))
  let left = Number(count)
  await new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`${left} messages are missing`)), 20000).unref()
    connection.on('error', reject)
    connection.on('close', () => reject(new Error('closed')))
    channel.consume(queue, message => {
      if (left === 0) return
      settle(channel, message)
      left -= 1
      if (left === 0) resolve()
    }).catch(reject)
  })
  connection.removeAllListeners('close')
  await channel.close()
  await connection.close()
}

const commands = {
  async topology(name, type) {
    const connection = await amqp.connect(process.env.AMQP)
    const channel = await connection.createChannel()
    await channel.assertExchange(`${name}-dlx`, 'fanout')
    await channel.assertQueue(`${name}-dead`)
    await channel.bindQueue(`${name}-dead`, `${name}-dlx`, '')
    await channel.assertExchange(name, 'direct')
    await channel.assertQueue(name, { deadLetterExchange: `${name}-dlx`, arguments: { 'x-queue-type': type } })
    await channel.bindQueue(name, name, 'orders')
    await connection.close()
  },

  async publish(name) {
    const connection = await amqp.connect(process.env.AMQP)
    const channel = await connection.createConfirmChannel()
    for (const line of readFileSync(0, 'utf8').split('\n').filter(Boolean)) {
      channel.publish(name, 'orders', Buffer.from(line), { persistent: true, mandatory: true, headers: { client: 'amqplib' } })
    }
    await channel.waitForConfirms()
    await connection.close()
  },

  async unroutable(name) {
    const connection = await amqp.connect(process.env.AMQP)
    const channel = await connection.createConfirmChannel()
    channel.on('return', ({ fields }) => process.stdout.write(`${fields.replyCode}\t${fields.replyText}\n`))
    channel.publish(name, 'nowhere', Buffer.from('lost'), { mandatory: true })
    await channel.waitForConfirms()
    await connection.close()
  },

  consume: (queue, prefetch, count) => take(queue, prefetch, count, (channel, message) => {
    show(message)
    channel.ack(message)
  }),

  requeue: queue => take(queue, 1, 2, (channel, message) => {
    show(message)
    message.fields.redelivered ? channel.ack(message) : channel.nack(message, false, true)
  }),

  reject: (queue, count) => take(queue, 5, count, (channel, message) => channel.reject(message, false)),

  dead: (queue, count) => take(queue, 5, count, (channel, message) => {
    const death = message.properties.headers['x-death'][0]
    process.stdout.write(`${death.reason}\t${death.queue}\t${death.count}\t${message.content}\n`)
    channel.ack(message)
  }),

  async follow(queue, count) {
    let left = Number(count)
    for (const end = Date.now() + 60000; left > 0 && Date.now() < end;) {
      try {
        await take(queue, 1, left, (channel, message) => {
          show(message)
          channel.ack(message)
          left -= 1
        })
      } catch {
        await new Promise(resolve => setTimeout(resolve, 100))
      }
    }
  },
}

const [command, ...rest] = process.argv.slice(2)
commands[command](...rest).catch(error => {
  console.error(error.message)
  process.exitCode = 1
})
