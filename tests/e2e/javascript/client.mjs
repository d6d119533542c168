// The JavaScript client against the server of KUBECONFIG: create, list, patch, watch, informer, delete.
import assert from 'node:assert/strict';
import * as k8s from '@kubernetes/client-node';

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const custom = config.makeApiClient(k8s.CustomObjectsApi);
const namespace = 'default';
const agents = { group: 'mastra.ai', version: 'v1', namespace, plural: 'agents' };

const made = await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'js' }, data: { a: 'b' } } });
assert.ok(made.metadata.uid);
const listed = await core.listNamespacedConfigMap({ namespace, fieldSelector: 'metadata.name=js' });
assert.deepEqual(listed.items.map((item) => item.metadata.name), ['js']);

const patched = await core.patchNamespacedConfigMap(
  { name: 'js', namespace, body: [{ op: 'add', path: '/data/c', value: 'd' }] },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.JsonPatch),
);
assert.deepEqual(patched.data, { a: 'b', c: 'd' });

await custom.createNamespacedCustomObject({
  ...agents,
  body: { apiVersion: 'mastra.ai/v1', kind: 'Agent', metadata: { name: 'js' }, spec: { instructions: 'Hi.' } },
});
const merged = await custom.patchNamespacedCustomObject(
  { ...agents, name: 'js', body: { spec: { description: 'From JavaScript.' } } },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
);
assert.equal(merged.spec.description, 'From JavaScript.');

// A watch from a list's version, as every controller does it.
const version = (await core.listNamespacedConfigMap({ namespace })).metadata.resourceVersion;
const seen = await new Promise((resolve, reject) => {
  new k8s.Watch(config)
    .watch(
      `/api/v1/namespaces/${namespace}/configmaps`,
      { resourceVersion: version },
      (type, object) => object.metadata.name === 'js' && resolve(type),
      (error) => error && error.name !== 'AbortError' && reject(error),
    )
    .then(async (request) => {
      await core.patchNamespacedConfigMap(
        { name: 'js', namespace, body: { data: { e: 'f' } } },
        k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
      );
      setTimeout(() => request.abort(), 1000);
    }, reject);
});
assert.equal(seen, 'MODIFIED');

const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, () =>
  core.listNamespacedConfigMap({ namespace }),
);
const found = new Promise((resolve) => informer.on('add', (item) => item.metadata.name === 'js' && resolve(item)));
const gone = new Promise((resolve) => informer.on('delete', (item) => item.metadata.name === 'js' && resolve(item)));
informer.on('error', () => {}); // stopping it aborts its request
await informer.start();
assert.equal((await found).data.e, 'f');
await core.deleteNamespacedConfigMap({ name: 'js', namespace });
await gone;
await informer.stop();

await custom.deleteNamespacedCustomObject({ ...agents, name: 'js' });
await assert.rejects(core.readNamespacedConfigMap({ name: 'js', namespace }), (error) => error.code === 404);
console.log('done');
process.exit(0);
