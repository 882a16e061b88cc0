// A certified OpenID provider (panva/node-oidc-provider) for `make test-oidc`. Settings come as JSON in the first argument.
import Provider, { interactionPolicy } from 'oidc-provider';

const { port, redirect, keys } = JSON.parse(process.argv[2]);
const resourceServer = (resource) => ({ scope: 'api', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: 300 });

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'console',
    client_secret: 'not-a-secret-but-long-enough-for-a-test',
    redirect_uris: [redirect],
    token_endpoint_auth_method: 'client_secret_post',
    grant_types: ['authorization_code'],
    response_types: ['code'],
  }],
  pkce: { required: () => true },
  scopes: ['openid', 'api'],
  features: {
    devInteractions: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      getResourceServerInfo: (_ctx, resource) => resourceServer(resource),
      useGrantedResource: () => true,
    },
  },
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  cookies: { keys: ['test'] },
  jwks: { keys },
});
provider.listen(port, '127.0.0.1', () => console.log('listening'));
