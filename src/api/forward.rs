//! Generates the tonic side of a service: each unary method goes through the desk, which answers it with a function
//! of this module or passes the same typed call on to the leader.

macro_rules! service {
    ($service:ident: $trait:path, $client:path {
        $( $method:ident($request:ident) -> $response:ident; )*
    } $($rest:tt)*) => {
        #[tonic::async_trait]
        impl $trait for $service {
            $(
                async fn $method(
                    &self,
                    request: tonic::Request<pb::$request>,
                ) -> Result<tonic::Response<pb::$response>, tonic::Status> {
                    self.desk
                        .answer(request, $method, |channel, request| async move {
                            let client = <$client>::new(channel);
                            client.max_decoding_message_size(crate::api::ANSWER_BYTES_MAX).$method(request).await
                        })
                        .await
                }
            )*
            $($rest)*
        }
    };
}

pub(super) use service;
