// Drives a server with BoxLite's npm client: one line of JSON for each case.
import { mkdirSync, readFileSync, writeFileSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import assert from 'node:assert/strict';

const { BoxliteRestOptions, ApiKeyCredential, JsBoxlite, SimpleBox } = await import(process.env.BOXLITE_CLIENT);
const { URL: url, KEY: key, WORK: work, ONLY: only } = process.env;

const connect = (u = url, k = key, pathPrefix) =>
  JsBoxlite.rest(new BoxliteRestOptions({ url: u, credential: k ? new ApiKeyCredential(k) : undefined, pathPrefix }));
const rt = connect();
const image = 'alpine:latest';

// limit bounds what may hang.
const limit = (p, what, ms = 60000) => {
  let timer;
  return Promise.race([p, new Promise((_, no) => { timer = setTimeout(() => no(new Error(`${what}: no answer in ${ms} ms`)), ms); })])
    .finally(() => clearTimeout(timer));
};
const drain = async (stream) => {
  let all = '';
  for (let item; (item = await stream.next()) !== null;) all += item;
  return all;
};
// run runs a command to its end.
const run = async (box, command, args = [], { env, tty, timeout, cwd, input } = {}) => {
  const x = await box.exec(command, args, env ?? null, tty ?? false, null, timeout ?? null, cwd ?? null);
  const out = x.stdout(), err = x.stderr();
  if (input !== undefined) {
    const stdin = await x.stdin();
    for (const part of [].concat(input)) await stdin.write(Buffer.from(part));
    await stdin.close();
  }
  const [stdout, stderr, result] = await limit(Promise.all([out.then(drain), err.then(drain), x.wait()]), command);
  return { stdout, stderr, code: result.exitCode, message: result.errorMessage };
};
const sh = (box, script, o) => run(box, 'sh', ['-c', script], o);
const rejects = async (p, re) => {
  try { await limit(p, 'rejection'); } catch (e) {
    if (!re.test(e.message)) throw new Error(`message ${JSON.stringify(e.message)} does not match ${re}`);
    return e.message;
  }
  throw new Error(`no error, want ${re}`);
};

const cases = [];
const test = (name, f) => cases.push([name, f]);
const main = await rt.create({ image, detach: false }, 'main');
const sha = (b) => createHash('sha256').update(b).digest('hex');

test('create is lazy', async () => {
  const info = await rt.getInfo('main');
  assert.equal(info.state.status, 'configured');
  assert.equal(info.state.running, false);
  assert.equal(info.name, 'main');
  assert.equal(info.image, image);
  assert.equal(info.cpus, 1);
  assert.equal(info.memoryMib, 512);
});
test('get by id, name and prefix', async () => {
  assert.equal((await rt.get(main.id)).id, main.id);
  assert.equal((await rt.get('main')).id, main.id);
  assert.equal((await rt.get(main.id.slice(0, 8))).id, main.id);
  assert.equal(await rt.get('nosuchbox'), null);
  assert.equal(await rt.getInfo('nosuchbox'), null);
});
test('get or create', async () => {
  const again = await rt.getOrCreate({ image }, 'main');
  assert.equal(again.created, false);
  assert.equal(again.box.id, main.id);
  const fresh = await rt.getOrCreate({ image }, 'fresh');
  assert.equal(fresh.created, true);
  await rt.remove('fresh', false);
});
test('exec with streams', async () => {
  const r = await sh(main, 'echo out; echo err >&2; exit 3');
  assert.deepEqual([r.stdout, r.stderr, r.code], ['out\n', 'err\n', 3]);
  assert.equal((await rt.getInfo('main')).state.status, 'running');
});
test('list', async () => {
  assert.ok((await rt.listInfo()).some((b) => b.id === main.id && b.state.running));
});
test('stdin', async () => {
  const r = await run(main, 'cat', [], { input: ['one ', 'two ', Buffer.from('drei\n')] });
  assert.deepEqual([r.stdout, r.code], ['one two drei\n', 0]);
});
test('large stdin comes back whole', async () => {
  const data = Buffer.alloc(8 << 20, 'abcdefghijklmnopqrstuvwxyz012345');
  const parts = [];
  for (let i = 0; i < data.length; i += 64 << 10) parts.push(data.subarray(i, i + (64 << 10)));
  const r = await run(main, 'sha256sum', [], { input: parts });
  assert.equal(r.stdout.split(' ')[0], sha(data));
});
test('env and cwd', async () => {
  const r = await sh(main, 'echo "$A-$B"; pwd', { env: [['A', 'one'], ['B', 'zwei ü']], cwd: '/usr' });
  assert.equal(r.stdout, 'one-zwei ü\n/usr\n');
});
test('timeout', async () => {
  const begun = Date.now();
  const r = await sh(main, 'sleep 60 & sleep 60', { timeout: 0.5 });
  assert.notEqual(r.code, 0);
  assert.ok(Date.now() - begun < 30000);
});
test('kill', async () => {
  const x = await main.exec('sleep', ['1000'], null, false, null, null, null);
  await x.kill();
  assert.equal((await limit(x.wait(), 'wait')).exitCode, 137);
});
test('signal', async () => {
  const x = await main.exec('sh', ['-c', "trap 'echo got; exit 42' USR1; echo ready; while :; do sleep 0.05; done"], null, false, null, null, null);
  const out = await x.stdout();
  assert.equal(await limit(out.next(), 'ready'), 'ready\n');
  await x.signal(10);
  assert.equal(await limit(out.next(), 'got'), 'got\n');
  assert.equal((await limit(x.wait(), 'wait')).exitCode, 42);
});
test('signal right after exec', async () => {
  const x = await main.exec('sleep', ['1000'], null, false, null, null, null);
  await x.signal(15);
  assert.equal((await limit(x.wait(), 'wait')).exitCode, 143);
});
test('signal out of the list', async () => {
  const x = await main.exec('sleep', ['1000'], null, false, null, null, null);
  await rejects(x.signal(63), /^invalid argument: .*signal 63/);
  await x.kill();
  await limit(x.wait(), 'wait');
});
test('terminal', async () => {
  const r = await sh(main, 'tty; echo err >&2', { tty: true });
  assert.match(r.stdout, /^\/dev\/pts\/\d+\r\nerr\r\n$/);
  assert.equal(r.stderr, '');
});
test('terminal resize', async () => {
  const x = await main.exec('sh', ['-c', 'read x; stty size'], null, true, null, null, null);
  const out = x.stdout();
  await x.resizeTty(50, 132);
  const stdin = await x.stdin();
  await stdin.writeString('go\n');
  assert.match(await limit(out.then(drain), 'output'), /50 132/);
  assert.equal((await limit(x.wait(), 'wait')).exitCode, 0);
});
test('resize without a terminal is refused', async () => {
  const x = await main.exec('sleep', ['1000'], null, false, null, null, null);
  await rejects(x.resizeTty(24, 80), /^invalid argument: .*terminal/);
  await x.kill();
  await limit(x.wait(), 'wait');
});
test('concurrent execs', async () => {
  const all = await Promise.all(Array.from({ length: 20 }, (_, i) => sh(main, `echo ${i}; sleep 0.1; exit ${i}`)));
  all.forEach((r, i) => assert.deepEqual([r.stdout, r.code], [`${i}\n`, i]));
});
test('unicode, also in small pieces', async () => {
  const text = 'grüße 你好 🎉\n';
  const r = await sh(main, `i=0; while [ $i -lt 2000 ]; do printf '${text.replace('\n', '\\n')}'; i=$((i+1)); done`);
  assert.equal(r.stdout, text.repeat(2000));
  const slow = await sh(main, `printf '\\360\\237'; sleep 0.02; printf '\\216\\211'`);
  assert.equal(slow.stdout, '🎉');
});
test('output that is no text', async () => {
  const r = await sh(main, `printf 'a\\377\\376b'; printf '\\303'`);
  assert.equal(r.stdout, 'a\uFFFD\uFFFDb\uFFFD');
});
test('100 MB of output', async () => {
  const r = await sh(main, `i=0; while [ $i -lt 100 ]; do head -c 1000000 /dev/zero | tr '\\0' x; i=$((i+1)); done`);
  assert.equal(r.stdout.length, 100e6);
  assert.equal(r.code, 0);
});
test('output before the end of a silent command', async () => {
  const x = await main.exec('sh', ['-c', 'echo first; sleep 1000'], null, false, null, null, null);
  assert.equal(await limit((await x.stdout()).next(), 'first'), 'first\n');
  await x.kill();
  await limit(x.wait(), 'wait');
});
test('copy a file in and out', async () => {
  const data = Buffer.from(Array.from({ length: 300000 }, (_, i) => i % 251));
  writeFileSync(join(work, 'a.bin'), data);
  await main.copyIn(join(work, 'a.bin'), '/root/renamed.bin');
  assert.equal((await run(main, 'sha256sum', ['/root/renamed.bin'])).stdout.split(' ')[0], sha(data));
  await main.copyIn(join(work, 'a.bin'), '/tmp/sub/dir/');
  assert.equal((await sh(main, 'ls /tmp/sub/dir /tmp/sub')).stdout, '/tmp/sub:\ndir\n\n/tmp/sub/dir:\na.bin\n');
  await main.copyOut('/root/renamed.bin', join(work, 'back.bin'));
  assert.equal(sha(readFileSync(join(work, 'back.bin'))), sha(data));
});
test('copy a tree in and out', async () => {
  const tree = join(work, 'tree');
  mkdirSync(join(tree, 'deep', 'er'), { recursive: true });
  writeFileSync(join(tree, 'x'), 'x');
  writeFileSync(join(tree, 'deep', 'er', 'y'), 'y');
  await main.copyIn(tree, '/data');
  assert.equal((await sh(main, 'cd /data && find . -type f | sort | xargs cat')).stdout, 'yx');
  mkdirSync(join(work, 'out'));
  await main.copyOut('/data', join(work, 'out'));
  assert.deepEqual(readdirSync(join(work, 'out')), ['data']);
  assert.equal(readFileSync(join(work, 'out', 'data', 'deep', 'er', 'y'), 'utf8'), 'y');
});
test('copy errors', async () => {
  await rejects(main.copyOut('/no/such/file', join(work, 'never')), /no\/such\/file/);
  await rejects(main.copyIn(join(work, 'missing'), '/x'), /missing|open/);
  await rejects(main.copyIn(join(work, 'a.bin'), '/x', { overwrite: false }), /^unsupported: /);
});
test('metrics', async () => {
  const m = await main.metrics();
  assert.ok(m.commandsExecutedTotal > 10);
  assert.ok(m.memoryBytes > 1 << 20);
  const all = await rt.metrics();
  assert.ok(all.boxesCreatedTotal >= 1 && all.numRunningBoxes >= 1 && all.totalCommandsExecuted > 10);
});
test('stop and start on one handle keep files', async () => {
  const box = await rt.create({ image }, 'keeper');
  await sh(box, 'echo kept >/root/file');
  await box.stop();
  assert.equal((await rt.getInfo('keeper')).state.status, 'stopped');
  await box.start();
  assert.equal((await run(box, 'cat', ['/root/file'])).stdout, 'kept\n');
  await rejects(rt.remove('keeper', false), /^invalid state: .*running/);
  await rt.remove('keeper', true);
  assert.equal(await rt.get('keeper'), null);
});
test('stop ends what runs, with an exit', async () => {
  const box = await rt.create({ image }, 'stopped');
  const x = await box.exec('sleep', ['1000'], null, false, null, null, null);
  const ended = x.wait();
  await box.stop();
  assert.notEqual((await limit(ended, 'wait')).exitCode, 0);
  await rt.remove('stopped', false);
});
test('a box removed by force ends what runs', async () => {
  const box = await rt.create({ image }, 'forced');
  const x = await box.exec('sleep', ['1000'], null, false, null, null, null);
  const ended = x.wait();
  await rt.remove('forced', true);
  assert.notEqual((await limit(ended, 'wait')).exitCode, 0);
});
test('options', async () => {
  const box = await rt.create({
    image, cpus: 2, memoryMib: 256, diskSizeGb: 2, workingDir: '/work', env: [{ key: 'FROM', value: 'box' }], user: 'nobody',
    autoStop: 0, autoDelete: 0,
  }, 'options');
  const r = await sh(box, 'pwd; echo $FROM; id -un; nproc');
  assert.equal(r.stdout, '/work\nbox\nnobody\n2\n');
  const info = await rt.getInfo('options');
  assert.equal(info.memoryMib, 256);
  await rt.remove('options', true);
});
// The client of this version does not read the network of a box.
const look = (name) => fetch(`${url}/v1/boxes/${name}`, { headers: { Authorization: `Bearer ${key}` } });
test('network', async () => {
  const box = await rt.create({ image, network: { outbound: { mode: 'disabled' }, inbound: { mode: 'disabled' } } }, 'offline');
  assert.equal((await sh(box, 'ls /sys/class/net || tail -n +3 /proc/net/dev | cut -d: -f1')).stdout.trim(), 'lo');
  assert.equal((await (await look('offline')).json()).network.outbound.mode, 'disabled');
  await rt.remove('offline', true);
  await rt.create({ image, network: { outbound: { mode: 'enabled', allowNet: ['api.example.com:443'] } } }, 'listed');
  assert.deepEqual((await (await look('listed')).json()).network.outbound.allow_net, ['api.example.com:443']);
  await rt.remove('listed', true);
  await rejects(rt.create({ image, network: { outbound: { mode: 'enabled', allowNet: ['not a rule'] } } }, 'bad'), /^invalid argument: .*not a rule/);
});
test('tunnel', async () => {
  const box = await rt.create({ image }, 'tunnel');
  const x = await box.exec('sh', ['-c', 'echo ready; while :; do nc -l -p 3000 -e cat; done'], null, false, null, null, null);
  assert.equal(await limit((await x.stdout()).next(), 'ready'), 'ready\n');
  let conn;
  for (let i = 0; i < 50 && !conn; i++) {
    // The client says CONNECT while it makes the tunnel, and nc may not listen yet.
    try {
      const tunnel = await box.network.tunnel(3000);
      assert.match(tunnel.uri(), /^http:/);
      conn = await tunnel.connect();
    } catch (err) {
      if (!/502/.test(err.message)) throw err;
      await new Promise((go) => setTimeout(go, 100));
    }
  }
  await conn.write(Buffer.from('through'));
  assert.equal((await limit(conn.read(100), 'read')).toString(), 'through');
  await conn.close();
  await rt.remove('tunnel', true);
});
test('secrets', async () => {
  const box = await rt.create({ image, secrets: [{ name: 'TOKEN', value: 'a-secret-value', hosts: ['api.example.com'] }] }, 'secret');
  const r = await sh(box, 'env | grep BOXLITE_SECRET');
  assert.equal(r.stdout, 'BOXLITE_SECRET_TOKEN=<BOXLITE_SECRET:TOKEN>\n');
  await rt.remove('secret', true);
});
test('volumes', async () => {
  const v = await rt.volumes.create('data');
  assert.equal(v.name, 'data');
  const box = await rt.create({ image, volumes: [{ managedVolume: 'data', guestPath: '/data' }] }, 'volume');
  await sh(box, 'echo kept >/data/file');
  await rt.remove('volume', true);
  const again = await rt.create({ image, volumes: [{ managedVolume: 'data', guestPath: '/data' }] }, 'volume');
  assert.equal((await run(again, 'cat', ['/data/file'])).stdout, 'kept\n');
  await rt.remove('volume', true);
  assert.ok((await rt.volumes.list()).some((x) => x.id === 'data'));
  await rt.volumes.remove('data');
});
test('a job does not start by an exec', async () => {
  const box = await rt.create({ image, cmd: ['sleep', '1000'] }, 'job');
  await rejects(box.exec('true', [], null, false, null, null, null), /^invalid state: .*main command/);
  await box.start();
  assert.equal((await sh(box, 'echo in')).stdout, 'in\n');
  await rt.remove('job', true);
});
test('SimpleBox', async () => {
  const box = new SimpleBox({ image, runtime: rt, name: 'simple' });
  const r = await limit(box.exec('echo', 'hello'), 'SimpleBox');
  assert.deepEqual([r.stdout, r.exitCode], ['hello\n', 0]);
  await box.stop();
  await rt.remove('simple', true);
});
test('errors', async () => {
  await rejects(rt.create({ image }, 'main'), /^already exists: .*main.*taken/);
  await rejects(rt.create({ image: 'UPPER CASE' }, 'bad'), /^invalid argument: /);
  await rejects(rt.create({ image, memoryMib: 1 }, 'bad'), /^invalid argument: .*memory/);
  await rejects(rt.create({ image }, 'bad name'), /^invalid argument: .*bad name/);
  await rejects(rt.remove('nosuchbox', false), /^box not found: .*nosuchbox/);
  await rejects(main.exec('/no/such/program', [], null, false, null, null, null), /^Execution error: .*no\/such\/program/);
  await rejects(main.exec('sh', ['-c', 'true'], null, false, null, null, '/no/such/dir'), /no\/such\/dir/);
});
test('an image that cannot be had', async () => {
  const box = await rt.create({ image: '127.0.0.1:1/no/such:image' }, 'noimage');
  await rejects(box.exec('true', [], null, false, null, null, null), /^images error: .*noimage.*127\.0\.0\.1:1: registry is unreachable/);
  await rt.remove('noimage', true);
});
test('keys', async () => {
  await rejects(connect(url, 'wrong-key-0123456789').listInfo(), /^configuration error: auth: .*key/);
  await rejects(connect(url, '').listInfo(), /^configuration error: auth: .*API key/);
});
test('what the server does not have', async () => {
  await rejects(main.snapshot.create('s'), /^unsupported: .*snapshots/);
  await rejects(main.cloneBox(), /^unsupported: .*clone/);
  await rejects(main.export(join(work, 'x.boxlite')), /^unsupported: .*export/);
});
// The client asks only servers that say they have it, so something says it for ours.
test('what the server does not have, asked for all the same', async () => {
  const proxy = createServer(async (req, res) => {
    const body = Buffer.concat(await req.toArray());
    const { authorization, 'content-type': type = 'application/json' } = req.headers;
    const answer = await fetch(url + req.url, {
      method: req.method, headers: { authorization, 'content-type': type }, body: body.length ? body : undefined,
    });
    const text = (await answer.text()).replace(/"(\w+_enabled)":false/g, '"$1":true');
    res.writeHead(answer.status, { 'Content-Type': 'application/json' }).end(text);
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const rt = connect(`http://127.0.0.1:${proxy.address().port}`);
  const box = await rt.get('main');
  writeFileSync(join(work, 'x.boxlite'), 'archive');
  const snapshots = /^unsupported: there are no snapshots of boxes here; a stopped box keeps its files/;
  await rejects(box.snapshot.create('s'), snapshots);
  await rejects(box.snapshot.list(), snapshots);
  await rejects(box.snapshot.get('s'), snapshots);
  await rejects(box.snapshot.remove('s'), snapshots);
  await rejects(box.snapshot.restore('s'), snapshots);
  await rejects(box.cloneBox(), /^unsupported: boxes are not cloned here; create another/);
  await rejects(box.export(join(work, 'y.boxlite')), /^unsupported: boxes are not exported here; copy files out/);
  await rejects(rt.importBox(join(work, 'x.boxlite'), 'y'), /^unsupported: boxes are not imported here; load an image/);
  proxy.close();
});
test('capabilities', async () => {
  const box = await rt.create({ image, advanced: { capabilities: { add: ['chown'], drop: ['ALL'] } } }, 'caps');
  assert.equal((await sh(box, 'grep ^CapEff /proc/self/status | cut -f2')).stdout, '0000000000000001\n');
  await rt.remove('caps', true);
  await rejects(rt.create({ image, advanced: { capabilities: { add: ['NET_ADMIN'] } } }, 'caps'), /^unsupported: .*CAP_NET_ADMIN cannot be added/);
});
test('paths with and without a prefix', async () => {
  assert.ok((await connect(url + '/').listInfo()).length > 0);
  assert.ok((await connect(url, key, 'default').listInfo()).length > 0);
});
test('remove', async () => {
  await main.stop();
  await rt.remove('main', false);
  assert.equal(await rt.get(main.id), null);
});

for (const [name, f] of cases) {
  if (only && !name.includes(only)) continue;
  let error = '';
  const begun = Date.now();
  try { await limit(f(), 'the case', 120000); } catch (e) { error = e.stack ?? String(e); }
  console.log(JSON.stringify({ name, error, ms: Date.now() - begun }));
}
process.exit(0); // the client keeps a connection pool
